"""Calls of a script that go out before the answers to earlier ones have come."""

from typing import Any

from audience_core.redis.connect import connect
from audience_core.redis.scripts import ScriptLine
from audience_core.settings import CoreSettings

MORE_THAN_A_POOL_HOLDS = 150


def test_connections_that_were_given_up_do_not_use_up_those_of_the_client(redis_url: str) -> None:
    with connect(CoreSettings(redis_url=redis_url)) as client:
        line = ScriptLine(client, "compare_and_set")
        for number in range(MORE_THAN_A_POOL_HOLDS):
            reply: Any = line.receive(line.send(["key"], ["field", "" if number == 0 else "1", "1"]))
            assert reply in {0, 1}
            line.close()
