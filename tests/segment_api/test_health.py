"""Health of connectors and the last use of API keys, as the gateway's notes have them."""

import time

import httpx

from audience_core.domain.members import iso_time
from audience_core.redis import keys
from tests.segment_api.support import ADMIN, Api, create_account

DAY_MS = 86_400_000


def test_connectors_show_whether_their_account_is_heard_from(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        await create_account(http)
        path = "/v1/accounts/acme/connectors"
        created = (await http.post(path, json={"provider": "mparticle", "name": "Shop"})).json()
        assert (created["health"]["state"], created["health"]["last_message_at"]) == ("never", None)
        now = time.time_ns() // 1_000_000
        for heard, state, since in (
            ({"last_message": now - DAY_MS + 60_000}, "ok", None),
            ({"last_message": now - DAY_MS - 60_000}, "late", now - 60_000),
            ({"last_message": now - 5, "last_refused": now - 4}, "refused", now - 4),
        ):
            api.redis.delete(keys.activity("acme"))
            api.redis.hset(keys.activity("acme"), mapping=heard)
            health = (await http.get(f"{path}/{created['id']}")).json()["health"]
            assert (health["state"], health["since"]) == (state, since and iso_time(since))
            assert health["last_message_at"] == iso_time(heard["last_message"])
            (listed,) = (await http.get(path)).json()["connectors"]
            assert listed["health"]["state"] == state

    api.run(scenario)


def test_an_api_key_shows_when_it_was_last_used(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        await create_account(http)
        path = "/v1/accounts/acme/api-keys"
        used, unused = [(await http.post(path)).json()["id"] for _ in range(2)]
        api.redis.hset(keys.activity("acme"), f"key:{used}", 1_790_000_000_123)
        listed = {key["id"]: key["last_used_at"] for key in (await http.get(path)).json()["api_keys"]}
        assert listed == {used: "2026-09-21T14:13:20.123Z", unused: None}

    api.run(scenario)
