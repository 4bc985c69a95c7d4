"""The application in this process, against a real Redis and a producer that only remembers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import redis

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.producer import Outgoing
from audience_core.redis import keys
from audience_core.redis.connect import connect_async
from segment_api.app import create_app
from segment_api.settings import ApiSettings

ADMIN = {"Authorization": "Bearer admin-token-of-the-tests"}


class Sender:
    """Remembers records, or fails as Kafka does."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.away = False

    def send_and_wait(self, records: Sequence[Outgoing], timeout: float) -> None:
        if self.away:
            raise KafkaUnavailable(f"no acknowledgement within {timeout:g} s")
        self.sent.extend(records)


class Api:
    """Runs a scenario against a fresh application."""

    def __init__(self, redis_url: str) -> None:
        self.redis_url = redis_url
        self.redis: Any = redis.Redis.from_url(redis_url, decode_responses=True)
        self.sender = Sender()
        self.admin_token = "admin-token-of-the-tests"

    def run(self, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        async def scene() -> None:
            settings = ApiSettings.model_validate(
                {
                    "redis_url": self.redis_url,
                    "admin_token": self.admin_token,
                    "pepper": "pepper-of-the-tests",
                    "shards": 8,
                }
            )
            client = connect_async(settings)
            app = create_app(settings, client=client, sender=self.sender)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
                try:
                    await scenario(http)
                finally:
                    app.close()
                    await asyncio.sleep(0)  # transports close in the next turn
            await client.aclose()

        asyncio.run(scene())

    def subscribe(self, audience_id: int, name: str = "", *, status: str = "ACTIVE", epoch: int = 0) -> None:
        """Write a subscription into the catalog of `acme`, as the gateway does."""
        state = {
            "account": "acme",
            "audience_id": audience_id,
            "name": name,
            "description": "d",
            "status": status,
            "epoch": epoch,
            "settings": {},
            "opened_at": 1,
            "updated_at": 1000,
        }
        self.redis.hset(keys.catalog("acme"), str(audience_id), json.dumps(state))
        self.redis.hincrby(keys.CATALOG_VERSIONS, "acme", 1)

    def count(self, audience_id: int, count: int, updated_at: int = 2000) -> None:
        """Write a total into the listing of `acme`, as the indexer does."""
        text = json.dumps({"count": count, "updated_at": updated_at})
        self.redis.hset(keys.index_counts("acme"), str(audience_id), text)
        if count:
            self.redis.zadd(keys.index("acme"), {str(audience_id): count})


async def create_account(http: httpx.AsyncClient, account: str = "acme") -> None:
    """Create an account."""
    answer = await http.post("/v1/accounts", json={"id": account, "name": "Acme"}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
