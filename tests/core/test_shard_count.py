"""Nobody with another number of shards works on a Redis that has state."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis.exceptions import RedisError

from audience_core.errors import RedisUnavailable, ShardRefused
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, Redis, connect, connect_async
from audience_core.redis.shard_count import ShardCountWatch, check_shard_count, claim_shard_count
from audience_core.settings import CoreSettings
from tests.pipeline.running import eventually

REFUSED = r"4 shards.*AUDIENCE_SHARDS is 8"
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    with connect(CoreSettings(redis_url=redis_url)) as connected:
        yield connected


def test_the_first_number_is_kept_and_another_one_refused_with_both(client: Redis) -> None:
    check_shard_count(client, 8)
    claim_shard_count(client, 4)
    claim_shard_count(client, 4)
    check_shard_count(client, 4)
    with pytest.raises(ShardRefused, match=REFUSED):
        claim_shard_count(client, 8)
    with pytest.raises(ShardRefused, match=REFUSED):
        check_shard_count(client, 8)


def played(scene: Callable[[AsyncRedis], Awaitable[None]], redis_url: str) -> None:
    async def play() -> None:
        watcher = connect_async(CoreSettings(redis_url=redis_url))
        try:
            await scene(watcher)
        finally:
            await watcher.aclose()

    asyncio.run(asyncio.wait_for(play(), 20))


def test_who_serves_notices_a_number_that_is_stored_later(client: Redis, redis_url: str) -> None:
    async def scene(watcher: AsyncRedis) -> None:
        watch = ShardCountWatch(watcher, 8)
        await watch.ask()
        claim_shard_count(client, 4)
        with pytest.raises(ShardRefused, match=REFUSED):
            await watch.forever()

    played(scene, redis_url)


def test_a_redis_that_is_away_is_a_fault_for_tools_and_no_objection_to_serve() -> None:
    with connect(CoreSettings(redis_url=NOBODY)) as client, pytest.raises(RedisUnavailable):
        check_shard_count(client, 8)
    played(lambda watcher: ShardCountWatch(watcher, 8).ask(), NOBODY)


def test_a_redis_that_refuses_to_tell_ends_nobody_until_it_tells_another_number(
    client: Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(watcher: AsyncRedis) -> None:
        watch = ShardCountWatch(watcher, 8)
        client.rpush(keys.SHARD_COUNT, "no number")
        await watch.ask()
        await watch.ask()
        assert capsys.readouterr().out.count("shard_count_not_read") == 1
        client.delete(keys.SHARD_COUNT)
        claim_shard_count(client, 4)
        with pytest.raises(ShardRefused, match=REFUSED):
            await watch.ask()

    played(scene, redis_url)


def test_a_user_without_the_right_to_it_may_serve(client: Redis, redis_url: str) -> None:
    server: Any = client
    server.execute_command("ACL", "SETUSER", "blind", "on", ">word", "~keys", "+@all")
    try:
        url = redis_url.replace("redis://", "redis://blind:word@")
        played(lambda watcher: ShardCountWatch(watcher, 8).ask(), url)
    finally:
        server.execute_command("ACL", "DELUSER", "blind")


@contextlib.contextmanager
def service(command: str, redis_url: str, log: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A gateway, an API or a command of 8 shards; Kafka is away, which keeps none from starting."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    settings = {
        "AUDIENCE_SHARDS": "8",
        "AUDIENCE_REDIS_URL": redis_url,
        "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "AUDIENCE_PEPPER": "pepper-of-the-tests",
        "AUDIENCE_ADMIN_TOKEN": "admin-token-of-the-tests",
        "AUDIENCE_GATEWAY_PORT": "0",
        "AUDIENCE_API_PORT": "0",
        "AUDIENCE_LOG_FORMAT": "json",
        **more,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", *command.split()],
            env={**inherited, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("command", ["gateway", "api"])
def test_a_service_with_another_number_does_not_start(
    client: Redis, redis_url: str, tmp_path: Path, command: str
) -> None:
    claim_shard_count(client, 4)
    log = tmp_path / "log"
    with service(command, redis_url, log) as process:
        assert process.wait(30) == 1
    written = log.read_text()
    assert f'"{command}_stopped"' in written
    assert "Redis holds state of 4 shards, AUDIENCE_SHARDS is 8" in written
    assert f"{command}_listening" not in written
    assert "Traceback" not in written


@pytest.mark.parametrize(("command", "processes"), [("gateway", "1"), ("gateway", "2"), ("api", "1")])
def test_a_service_stops_when_another_number_is_stored_later(
    client: Redis, redis_url: str, tmp_path: Path, command: str, processes: str
) -> None:
    log = tmp_path / "log"
    with service(command, redis_url, log, AUDIENCE_GATEWAY_PROCESSES=processes) as process:
        eventually(lambda: log.read_text().count(f"{command}_listening"), 30, int(processes))
        claim_shard_count(client, 4)
        assert process.wait(30) == 1
    assert "Redis holds state of 4 shards, AUDIENCE_SHARDS is 8" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("command", ["gateway", "api"])
def test_a_service_that_is_told_to_stop_while_redis_does_not_answer_ends_with_0(
    client: Redis, redis_url: str, tmp_path: Path, command: str
) -> None:
    log = tmp_path / "log"
    with service(command, redis_url, log) as process:
        eventually(lambda: f"{command}_listening" in log.read_text(), 30)
        cast(Any, client).execute_command("CLIENT", "PAUSE", 3000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0

    def answers() -> bool:
        with contextlib.suppress(RedisError):
            return bool(client.ping())
        return False

    eventually(answers, 10)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("command", ["dlq replay", "verify"])
def test_no_command_looks_into_other_shards(client: Redis, redis_url: str, tmp_path: Path, command: str) -> None:
    claim_shard_count(client, 4)
    log = tmp_path / "log"
    with service(command, redis_url, log) as process:
        assert process.wait(30) == 1
    assert "audience-stream: Redis holds state of 4 shards" in log.read_text()
