"""Many reads over few connections: each gets its own reply, also after an outage."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis

from audience_core.errors import RedisUnavailable
from audience_core.redis.connect import connect_async
from audience_core.redis.multiplexed import MultiplexedReader, PooledReader, Reader
from audience_core.settings import CoreSettings

BOUND_S, PATIENT_S = 0.5, 10.0
Scenario = Callable[[Reader], Awaitable[None]]


def run(reader_of: Callable[[], Reader], scenario: Scenario) -> None:
    async def scene() -> None:
        reader = reader_of()
        try:
            await scenario(reader)
        finally:
            reader.close()
            await asyncio.sleep(0)

    asyncio.run(scene())


@pytest.fixture
def admin(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_each_of_a_crowd_gets_its_own_replies(admin: Any, redis_url: str) -> None:
    for number in range(1000):
        admin.sadd(f"set:{number}", number)
        admin.hset(f"hash:{number}", "field", number)

    async def scenario(reader: Reader) -> None:
        async def one(number: int) -> None:
            asked = [("SMEMBERS", f"set:{number}"), ("HGETALL", f"hash:{number}"), ("GET", "nothing")]
            assert await reader.ask(*asked) == [[str(number)], ["field", str(number)], None]

        await asyncio.gather(*(one(number) for number in range(1000)))

    run(lambda: MultiplexedReader(redis_url, PATIENT_S), scenario)

    async def pooled(_reader: Reader) -> None:
        client = connect_async(CoreSettings(redis_url=redis_url))
        await scenario(PooledReader(client, PATIENT_S))
        await client.aclose()

    run(lambda: MultiplexedReader(redis_url, PATIENT_S), pooled)


def test_a_caller_who_gives_up_takes_nobodys_reply_along(admin: Any, redis_url: str) -> None:
    admin.mset({str(number): number for number in range(100)})

    async def scenario(reader: Reader) -> None:
        tasks = [asyncio.create_task(reader.ask(("GET", number))) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        assert [await task for task in tasks[1::2]] == [[str(number)] for number in range(1, 100, 2)]

    run(lambda: MultiplexedReader(redis_url, PATIENT_S), scenario)


def test_a_broken_connection_fails_what_waits_and_the_next_read_gets_a_new_one(admin: Any, redis_url: str) -> None:
    async def scenario(reader: Reader) -> None:
        await asyncio.gather(*(reader.ask(("PING",)) for _ in range(4)))
        waiting = asyncio.create_task(reader.ask(("BLPOP", "never", 0)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(admin.client_kill_filter, _type="normal", skipme=True)
        with pytest.raises(RedisUnavailable):
            await waiting
        assert await reader.ask(("ECHO", "again")) == ["again"]

    run(lambda: MultiplexedReader(redis_url, 5.0), scenario)


def test_no_answer_within_the_bound_is_unavailable_and_never_answers_another_question(
    admin: Any, redis_url: str
) -> None:
    async def scenario(reader: Reader) -> None:
        with pytest.raises(RedisUnavailable):
            await reader.ask(("BLPOP", "late", 0))
        await asyncio.to_thread(admin.rpush, "late", "x")
        assert await reader.ask(("ECHO", "mine")) == ["mine"]

    run(lambda: MultiplexedReader(redis_url, BOUND_S, connections=1), scenario)


def test_a_password_and_a_database_are_taken_from_the_address(admin: Any, redis_url: str) -> None:
    admin.config_set("requirepass", "secret")
    try:
        with redis.Redis.from_url(redis_url.replace("/0", "/3").replace("//", "//:secret@")) as other:
            other.set("in", "three")

        async def scenario(reader: Reader) -> None:
            assert await reader.ask(("GET", "in")) == ["three"]

        run(lambda: MultiplexedReader(redis_url.replace("/0", "/3").replace("//", "//:secret@"), BOUND_S), scenario)
    finally:
        with redis.Redis.from_url(redis_url.replace("//", "//:secret@")) as authorised:
            authorised.config_set("requirepass", "")


def test_an_error_of_redis_is_raised_for_its_own_question_only(redis_url: str) -> None:
    async def scenario(reader: Reader) -> None:
        answers: list[Any] = await asyncio.gather(
            reader.ask(("NOSUCH",)), reader.ask(("ECHO", "right")), return_exceptions=True
        )
        wrong, right = answers
        assert isinstance(wrong, redis.ResponseError)
        assert right == ["right"]

    run(lambda: MultiplexedReader(redis_url, BOUND_S, connections=1), scenario)
