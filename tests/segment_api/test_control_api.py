"""The control, listing and visitor routes against a real Redis."""

from collections.abc import AsyncIterator

import httpx
import pytest

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from tests.segment_api.support import ADMIN, Api, create_account

NOW_MS = 1_790_000_000_123
NOW_ISO = "2026-09-21T14:13:20.123Z"


@pytest.mark.parametrize("given", [None, "", "Bearer wrong", "Bearer ", "Basic admin-token-of-the-tests", "Bearer ü"])
def test_without_the_admin_token_nothing_below_v1_answers(api: Api, given: str | None) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        headers = {} if given is None else {b"Authorization": given.encode()}
        for path in ("/v1/accounts", "/v1/nothing", "/v1"):
            answer = await http.post(path, headers=headers, content=b"{not json")
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["error"] == "unauthorized"

    api.run(scenario)


def test_an_admin_token_is_replaced_without_a_gap_and_the_old_one_ends(api: Api) -> None:
    async def status(http: httpx.AsyncClient, token: str) -> int:
        return (await http.get("/v1/accounts", headers={"Authorization": f"Bearer {token}"})).status_code

    async def both(http: httpx.AsyncClient) -> None:
        assert [await status(http, token) for token in ("new", "old", "new old", "")] == [200, 200, 401, 401]

    async def one(http: httpx.AsyncClient) -> None:
        assert [await status(http, token) for token in ("new", "old")] == [200, 401]

    api.admin_token = "new old"
    api.run(both)
    api.admin_token = "new"
    api.run(one)


def test_an_account_is_created_once_and_read_back(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        created = await http.post("/v1/accounts", json={"id": "acme", "name": "Acme"})
        assert created.status_code == 201
        assert created.json().keys() == {"id", "name", "created_at"}
        again = await http.post("/v1/accounts", json={"id": "acme", "name": "Other"})
        assert (again.status_code, again.json()["error"]) == (409, "already_exists")
        assert (await http.get("/v1/accounts")).json() == {"accounts": [created.json()]}
        assert (await http.get("/v1/accounts/acme")).json() == created.json()

    api.run(scenario)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "a:b", "name": "n"}, "body.id"),
        ({"id": "-a", "name": "n"}, "body.id"),
        ({"id": "acme\n", "name": "n"}, "body.id"),
        ({"id": "a" * 65, "name": "n"}, "body.id"),
        ({"id": "acme", "name": ""}, "body.name"),
        ({"id": "acme", "name": "n" * 256}, "body.name"),
        ({"id": "acme"}, "body.name"),
        ({"id": "acme", "name": 12345678}, "body.name"),
    ],
)
def test_a_wrong_field_is_named_without_its_value(api: Api, body: dict[str, object], field: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.post("/v1/accounts", json=body, headers=ADMIN)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
        assert field in answer.json()["message"]
        assert "12345678" not in answer.text

    api.run(scenario)


def test_connectors_are_created_listed_read_and_deleted(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        await create_account(http)
        path = "/v1/accounts/acme/connectors"
        created = await http.post(path, json={"provider": "mparticle", "name": "Shop"})
        assert created.status_code == 201
        one = f"{path}/{created.json()['id']}"
        assert (await http.get(path)).json() == {"connectors": [created.json()]}
        assert (await http.get(one)).json() == created.json()
        assert (await http.delete(one)).status_code == 204
        assert (await http.get(one)).status_code == 404
        assert (await http.delete(one)).status_code == 404
        assert (await http.post(path, json={"provider": "other", "name": "Shop"})).status_code == 422

    api.run(scenario)


def test_the_secret_of_a_key_is_shown_once(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        await create_account(http)
        path = "/v1/accounts/acme/api-keys"
        created = await http.post(path)
        assert created.status_code == 201
        assert created.json().keys() == {"id", "secret"}
        first = created.json()["id"]
        rotated = await http.post(f"{path}/{first}/rotate")
        assert rotated.status_code == 201
        assert rotated.json().keys() == {"id", "secret"}
        assert (await http.delete(f"{path}/{first}")).status_code == 204
        listed = await http.get(path)
        assert {k["id"]: k["status"] for k in listed.json()["api_keys"]} == {
            first: "revoked",
            rotated.json()["id"]: "active",
        }
        assert created.json()["secret"] not in listed.text
        assert (await http.delete(f"{path}/nothing")).status_code == 404
        assert (await http.post(f"{path}/nothing/rotate")).status_code == 404

    api.run(scenario)


@pytest.mark.parametrize("rest", ["", "/connectors", "/api-keys", "/audiences", "/visitors/1"])
def test_an_unknown_account_is_404_everywhere(api: Api, rest: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get(f"/v1/accounts/nobody{rest}", headers=ADMIN)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")

    api.run(scenario)


def test_the_listing_holds_active_populated_audiences_and_all_when_asked(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        await create_account(http)
        api.subscribe(1, "Buyers")
        api.subscribe(2, "Empty")
        api.subscribe(3, "Gone", status="REMOVED", epoch=1)
        for audience_id, count in ((1, 5), (2, 0), (3, 9), (4, 4)):
            api.count(audience_id, count)
        path = "/v1/accounts/acme/audiences"
        buyers = {
            "audience_id": 1,
            "name": "Buyers",
            "description": "d",
            "status": "active",
            "count": 5,
            "updated_at": "1970-01-01T00:00:02.000Z",
        }
        assert (await http.get(path)).json() == {"audiences": [buyers], "next_cursor": None}
        everything = (await http.get(path, params={"populated": "false"})).json()["audiences"]
        assert [(a["audience_id"], a["status"], a["count"]) for a in everything] == [
            (1, "active", 5),
            (2, "active", 0),
            (3, "removed", 0),
        ]

    api.run(scenario)


def test_pages_follow_one_another_by_count_and_id_without_gaps_or_repeats(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        await create_account(http)
        for audience_id, count in ((10, 2), (9, 2), (-1, 2), (7, 30), (8, 1)):
            api.subscribe(audience_id, f"A{audience_id}")
            api.count(audience_id, count)
        path, found, cursor = "/v1/accounts/acme/audiences", [], None
        while True:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await http.get(path, params=params)).json()
            found += [a["audience_id"] for a in page["audiences"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == [7, -1, 9, 10, 8]

    api.run(scenario)


@pytest.mark.parametrize(
    ("q", "found"), [("BUY", [1]), ("12", [12]), ("1", [1]), ("É", [12]), ("none", []), ("", [1, 12])]
)
def test_a_search_finds_a_part_of_the_name_or_the_exact_id(api: Api, q: str, found: list[int]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        for audience_id, name in ((1, "Big buyers"), (12, "Été")):
            api.subscribe(audience_id, name)
            api.count(audience_id, 1)
        answer = await http.get("/v1/accounts/acme/audiences", params={"q": q}, headers=ADMIN)
        assert [a["audience_id"] for a in answer.json()["audiences"]] == found

    api.run(scenario)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "cursor=%21", "cursor=AAAA", "cursor=%C3%A9", "populated=7"]
)
def test_a_malformed_question_to_the_listing_is_422(api: Api, query: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        answer = await http.get(f"/v1/accounts/acme/audiences?{query}", headers=ADMIN)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid")

    api.run(scenario)


def test_a_visitor_shows_what_they_are_in_and_what_they_left(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        api.subscribe(1, "Buyers")
        api.subscribe(3, "Gone", status="REMOVED", epoch=1)
        shard = shard_of(visitor_key("acme", "a/é"), 8)
        api.redis.sadd(keys.of_visitor(shard, "acme", "a/é").members, "1", "3", "4")
        guards = {"r": NOW_MS, "1": NOW_MS, "2": -NOW_MS, "3": -NOW_MS}
        api.redis.hset(keys.of_visitor(shard, "acme", "a/é").guards, mapping=guards)
        answer = await http.get("/v1/accounts/acme/visitors/a/%C3%A9", headers=ADMIN)
        assert answer.json() == {
            "mpid": "a/é",
            "audiences": [
                {"audience_id": 1, "name": "Buyers", "member": True, "changed_at": NOW_ISO},
                {"audience_id": 2, "name": None, "member": False, "changed_at": NOW_ISO},
                {"audience_id": 4, "name": None, "member": True, "changed_at": None},
            ],
        }

    api.run(scenario)


def test_a_body_over_the_limit_is_413_whether_it_tells_its_length_or_not(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    async def scenario(http: httpx.AsyncClient) -> None:
        http.headers.update(ADMIN)
        for content in (b" " * 1_000_001, chunks()):
            answer = await http.post("/v1/accounts", content=content)
            assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
        assert (await http.post("/v1/accounts", content=chunks(), headers={"Authorization": "x"})).status_code == 401
        json_type = {"Content-Type": "application/json"}
        padded = b'{"id":"acme","name":"Acme"}' + b" " * 900_000
        assert (await http.post("/v1/accounts", content=padded, headers=json_type)).status_code == 201

    api.run(scenario)
