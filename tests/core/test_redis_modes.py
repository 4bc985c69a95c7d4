"""How settings name a Redis Cluster and Sentinels."""

from typing import Any

import pytest

from audience_core.errors import RedisUnavailable, SettingsError
from audience_core.redis.connect import connect
from audience_core.settings import CoreSettings, load


def test_nodes_are_hosts_with_ports() -> None:
    settings = CoreSettings(redis_nodes="10.0.0.1:26379, sentinel-2.redis:26380,")
    assert settings.redis_addresses == [("10.0.0.1", 26379), ("sentinel-2.redis", 26380)]


def test_sentinels_without_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_REDIS_MODE", "sentinel")
    with pytest.raises(SettingsError, match="AUDIENCE_REDIS_NODES has to name the Sentinels"):
        load(CoreSettings)


def test_with_sentinels_the_url_names_the_master_and_how_to_speak_to_it() -> None:
    url = "rediss://reader:secret@audiences/3"
    client = connect(CoreSettings(redis_url=url, redis_mode="sentinel", redis_nodes="127.0.0.1:1"))
    pool: Any = client.connection_pool
    assert pool.service_name == "audiences"
    given = pool.connection_kwargs
    assert (given["username"], given["password"], given["db"]) == ("reader", "secret", 3)
    assert "SSL" in pool.connection_class.__name__
    client.close()


def test_a_cluster_that_nobody_answers_for_may_answer_later() -> None:
    with pytest.raises(RedisUnavailable):
        connect(CoreSettings(redis_url="redis://127.0.0.1:1", redis_mode="cluster"))
