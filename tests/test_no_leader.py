"""Commands that need all logs say which ones have no leader, instead of going on with some."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from audience_core.errors import KafkaUnavailable
from audience_core.settings import CoreSettings
from audience_stream import backlog
from audience_stream import reset_offsets as reset
from audience_stream.backlog import Meter

LEADERLESS = 1


class Admin:
    """Of three logs, one has no leader."""

    def __init__(self, *_: object) -> None: ...

    def check(self) -> None: ...

    def topic_id(self, _topic: str) -> str:
        return "topic-1"

    def starts(self, _topic: str, partitions: list[int]) -> dict[int, int]:
        return {partition: 0 for partition in partitions if partition != LEADERLESS}


def test_status_names_the_shards_whose_logs_have_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "measure", lambda _consumer, stored: dict.fromkeys(stored))
    store = SimpleNamespace(offsets=lambda shards: dict.fromkeys(shards, 0))
    meter = Meter(CoreSettings(shards=3), cast(Any, store), cast(Any, Admin()), cast(Any, None))
    with pytest.raises(KafkaUnavailable, match=r"the logs of the shards \[1\] reach"):
        meter.measure()


def test_no_offset_is_reset_while_a_log_has_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset, "TopicAdmin", Admin)
    monkeypatch.setenv("AUDIENCE_SHARDS", "3")
    monkeypatch.setattr(reset, "connect", lambda _: pytest.fail("Redis was asked"))
    with pytest.raises(KafkaUnavailable, match=r"the logs of the shards \[1\] begin"):
        reset.reset_offsets()
