"""What marketers and integrators see: saved segments and the activity of their connectors, through the whole system."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis

from audience_core.redis.activity import ActivityReader
from audience_core.redis.connect import connect_async
from audience_core.settings import CoreSettings
from tests.pipeline.running import Stack, eventually

T = TypeVar("T")


def read_activity(stack: Stack, read: Callable[[ActivityReader], Awaitable[T]]) -> T:
    async def scene() -> T:
        client = connect_async(CoreSettings.model_validate({"redis_url": stack.ready["redis_url"]}))
        try:
            return await read(ActivityReader(client))
        finally:
            await client.aclose()

    return asyncio.run(scene())


def everything_under(prefix: str, redis_url: str) -> str:
    """Names and content of all keys that begin so, as text."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as found:
        client: Any = found
        reading = {"stream": client.xrange, "hash": client.hgetall}
        names = list(client.scan_iter(match=f"{prefix}*"))
        return repr([(name, reading[client.type(name)](name)) for name in names])


def test_a_saved_segment_follows_its_audiences_and_ends_with_them(stack: Stack) -> None:
    stack.subscribe(7811)
    stack.subscribe(7812)
    for mpid, audience_id in (("seg-1", 7811), ("seg/2", 7811), ("seg/2", 7812), ("seg-3", 7812)):
        assert stack.change(mpid, audience_id, "add").status_code == 200
    eventually(lambda: (stack.listing().get(7811), stack.listing().get(7812)), 5, (2, 2))

    segments = f"/v1/accounts/{stack.ready['account']}/segments"
    items: list[dict[str, Any]] = [{"audience_id": 7811}, {"op": "not", "items": [{"audience_id": 7812}]}]
    body = {"name": "Only 7811", "rule": {"op": "and", "items": items}, "served": True}
    created = stack.api("POST", segments, json=body)
    assert created.status_code == 201, created.text
    row = f"segment:{created.json()['id']}"

    def matching() -> list[str]:
        paths = {mpid: f"{segments}/{created.json()['id']}/visitors/{mpid}" for mpid in ("seg-1", "seg/2", "seg-3")}
        return [mpid for mpid, path in paths.items() if stack.api("GET", path).json()["matches"]]

    assert matching() == ["seg-1"]
    assert stack.segments("seg-1")[row] == "member"
    assert stack.segments("seg/2").get(row) != "member"
    assert stack.change("seg-1", 7812, "add").status_code == 200
    eventually(lambda: stack.segments("seg-1").get(row), 5, "left")
    assert matching() == []
    assert stack.change("seg/2", 7812, "delete").status_code == 200
    eventually(matching, 5, ["seg/2"])

    stack.subscribe(7811, "remove")
    stack.subscribe(7812, "remove")
    assert matching() == []
    assert stack.segments("seg/2") == {}
    (listed,) = [s for s in stack.api("GET", segments).json()["segments"] if s["id"] == created.json()["id"]]
    assert (listed["name"], listed["size"], listed["exact"]) == ("Only 7811", 0, True)


def test_a_connector_says_whether_it_is_heard_from_and_what_to_do(stack: Stack) -> None:
    key = stack.new_account("quiet")
    connector = stack.api(
        "POST", "/v1/accounts/quiet/connectors", json={"provider": "mparticle", "name": "Shop"}
    ).json()
    assert connector["health"]["state"] == "never"
    (listed_key,) = stack.api("GET", "/v1/accounts/quiet/api-keys").json()["api_keys"]
    assert listed_key["last_used_at"] is None

    def health() -> dict[str, Any]:
        answer: dict[str, Any] = stack.api("GET", f"/v1/accounts/quiet/connectors/{connector['id']}").json()
        return dict(answer["health"])

    assert stack.message("audience_membership_change_request", key).status_code == 200
    eventually(lambda: health()["state"], 5, "ok")
    (listed,) = stack.api("GET", "/v1/accounts/quiet/connectors").json()["connectors"]
    assert listed["health"] == health()
    (listed_key,) = stack.api("GET", "/v1/accounts/quiet/api-keys").json()["api_keys"]
    assert listed_key["last_used_at"] == health()["last_message_at"]

    stack.api("DELETE", f"/v1/accounts/quiet/api-keys/{listed_key['id']}")

    def sent_with_the_revoked_key() -> str:
        stack.message("audience_membership_change_request", key)
        return str(health()["state"])

    eventually(sent_with_the_revoked_key, 5, "refused")
    assert "Resume" in health()["text"]


def test_latest_requests_show_what_came_and_nothing_of_its_content(stack: Stack) -> None:
    key = stack.new_account("watched")
    stack.subscribe(7101, key=key)
    assert stack.change("mpid-that-nobody-may-see", 7101, "add", key).status_code == 200
    unknown = stack.change("mpid-that-nobody-may-see", 7101, "add", "key-that-nobody-knows")
    assert unknown.status_code == 401

    def heard() -> list[tuple[str, int, int]]:
        listed = read_activity(stack, lambda reader: reader.requests("watched"))
        return [(request.type, request.status, request.changes) for request in listed]

    wanted = [("audience_subscription_request", 200, 0), ("audience_membership_change_request", 200, 1)]
    eventually(heard, 5, wanted)
    refused = read_activity(stack, lambda reader: reader.requests(None))[-1]
    assert (refused.status, refused.reason, refused.key_id) == (401, "unknown_api_key", None)

    def received() -> list[tuple[int, int]]:
        series = read_activity(stack, lambda reader: reader.audience_series("watched", 7101))
        return [(minute.enters, minute.exits) for minute in series.minutes]

    eventually(received, 5, [(1, 0)])

    stored = everything_under("activity:", stack.ready["redis_url"])
    assert "unknown_api_key" in stored
    for secret in ("mpid-that-nobody-may-see", key, "key-that-nobody-knows"):
        assert secret not in stored
