"""A Redis that loses the shards' state is filled again from the log, also when no message comes that would show it."""

import pytest
import redis

from tests.pipeline.running import Stack, eventually

AUDIENCE = 7301


@pytest.mark.timeout(60)
def test_state_that_redis_lost_comes_back_though_nothing_is_sent(stack: Stack) -> None:
    assert stack.subscribe(AUDIENCE).status_code == 200
    assert stack.change("kept", AUDIENCE, "add").status_code == 200
    eventually(lambda: stack.listing().get(AUDIENCE), 5, 1)
    with redis.Redis.from_url(stack.ready["redis_url"]) as client:
        client.delete(*client.scan_iter("{s*}:*", count=1000))
    eventually(lambda: stack.segments("kept"), 15, {str(AUDIENCE): "member"})
    eventually(lambda: stack.listing().get(AUDIENCE), 5, 1)
