"""The asyncio client's pool."""

import asyncio

from pydantic import SecretStr

from audience_core.redis.connect import connect_async
from audience_core.settings import CoreSettings


def test_a_crowd_waits_for_the_few_connections_there_are_and_all_of_it_is_served(redis_url: str) -> None:
    async def run() -> tuple[list[int], int]:
        client = connect_async(CoreSettings(redis_url=SecretStr(redis_url), redis_connections=4))
        numbers = await asyncio.gather(*(client.incr("n") for _ in range(400)))
        listed = await client.client_list()
        await client.aclose()
        return sorted(numbers), len(listed)

    numbers, connections = asyncio.run(run())
    assert numbers == list(range(1, 401))
    assert connections <= 4
