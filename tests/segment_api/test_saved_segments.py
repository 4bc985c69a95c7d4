"""Saved segments over HTTP, against a real Redis."""

from typing import Any

import httpx
import pytest

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from segment_api.saved_segments import MAX_SEGMENTS, MAX_SERVED
from tests.segment_api.support import ADMIN, Api, create_account

PATH = "/v1/accounts/acme/segments"


def audience(audience_id: int) -> dict[str, Any]:
    return {"audience_id": audience_id}


def rule(op: str, *items: int | dict[str, Any]) -> dict[str, Any]:
    return {"op": op, "items": [audience(item) if isinstance(item, int) else item for item in items]}


def enter(api: Api, mpid: str, *members: str) -> None:
    api.redis.sadd(keys.of_visitor(shard_of(visitor_key("acme", mpid), 8), "acme", mpid).members, *members)


async def populate(api: Api, http: httpx.AsyncClient, **names: str) -> None:
    """Account `acme` with audiences 1, 2 and 3: visitor `a` is in 1, `b` in 2, `ab/c` in all of them."""
    http.headers.update(ADMIN)
    await create_account(http)
    for audience_id, count in ((1, 2), (2, 2), (3, 1)):
        api.subscribe(audience_id, names.get(f"a{audience_id}", f"Audience {audience_id}"))
        api.count(audience_id, count)
    enter(api, "a", "1")
    enter(api, "b", "2")
    enter(api, "ab/c", "1", "2", "3")


async def save(http: httpx.AsyncClient, given: dict[str, Any], **fields: Any) -> str:
    answer = await http.post(PATH, json={"name": "S", "rule": given, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def matching(http: httpx.AsyncClient, segment_id: str, *mpids: str) -> list[str]:
    found = []
    for mpid in mpids:
        answer = await http.get(f"{PATH}/{segment_id}/visitors/{mpid}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["mpid"] == mpid
        if answer.json()["matches"]:
            found.append(mpid)
    return found


def test_a_segment_is_saved_listed_read_changed_copied_and_deleted(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http, a1="Buyers")
        answer = await http.post(PATH, json={"name": "Not 2", "rule": rule("and", 1, rule("not", 2))})
        assert answer.status_code == 201
        created = answer.json()
        assert created["description"] == "Visitors in “Buyers” and not in “Audience 2”."
        assert (created["name"], created["served"], created["size"]) == ("Not 2", False, 1)
        assert created["id"] == created["id"].lower().strip()
        one = f"{PATH}/{created['id']}"
        assert (await http.get(PATH)).json() == {"segments": [created]}
        assert (await http.get(one)).json() == created
        changed = (await http.put(one, json={"name": "Two", "rule": rule("or", 2), "served": True})).json()
        assert (changed["name"], changed["served"], changed["size"]) == ("Two", True, 2)
        assert changed["created_at"] == created["created_at"]
        copied = await http.post(f"{one}/duplicate")
        assert copied.status_code == 201
        assert (copied.json()["name"], copied.json()["served"]) == ("Copy of Two", False)
        assert copied.json()["rule"] == changed["rule"]
        assert (await http.delete(one)).status_code == 204
        assert [s["id"] for s in (await http.get(PATH)).json()["segments"]] == [copied.json()["id"]]

    api.run(scenario)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"name": "", "rule": rule("and", 1)}, "name"),
        ({"name": "n" * 256, "rule": rule("and", 1)}, "name"),
        ({"name": "n"}, "rule"),
        ({"name": "n", "rule": rule("xor", 1)}, "op"),
        ({"name": "n", "rule": rule("and", {"audience_id": "one"})}, "audience_id"),
        ({"name": "n", "rule": rule("and", {"audience_id": 1, "op": "and"})}, "op"),
        ({"name": "n", "rule": rule("and", 99)}, "subscribed"),
        ({"name": "n", "rule": rule("and", 4)}, "subscribed"),
        ({"name": "n", "rule": rule("and", *[1] * 201)}, "200"),
        ({"name": "n", "rule": rule("or", rule("and", *[1] * 100), rule("and", *[1] * 100))}, "200"),
    ],
)
def test_a_segment_that_breaks_a_rule_is_422_and_not_saved(api: Api, body: dict[str, Any], named: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        api.subscribe(4, "Gone", status="REMOVED", epoch=1)
        answer = await http.post(PATH, json=body)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
        assert named in answer.json()["message"]
        assert (await http.get(PATH)).json() == {"segments": []}

    api.run(scenario)


def test_eight_levels_are_saved_and_nine_refused_also_absurdly_many(api: Api) -> None:
    def nested(levels: int) -> dict[str, Any]:
        return rule("and", 1) if levels == 1 else rule("and", nested(levels - 1))

    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        await save(http, nested(8))
        for levels in (9, 100):
            answer = await http.post(PATH, json={"name": "n", "rule": nested(levels)})
            assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
        text = '{"name":"n","rule":' + '{"op":"and","items":[' * 5000 + "]}" * 5000 + "}"
        answer = await http.post(PATH, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}

    api.run(scenario)


def test_what_does_not_exist_is_404(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        body = {"name": "n", "rule": rule("and", 1)}
        for method, path, given in (
            ("GET", "/v1/accounts/nobody/segments", None),
            ("POST", "/v1/accounts/nobody/segments", body),
            ("POST", "/v1/accounts/nobody/segments/estimate", {"rule": body["rule"]}),
            ("GET", f"{PATH}/none", None),
            ("PUT", f"{PATH}/none", body),
            ("DELETE", f"{PATH}/none", None),
            ("POST", f"{PATH}/none/duplicate", None),
            ("GET", f"{PATH}/none/visitors/1", None),
        ):
            answer = await http.request(method, path, json=given)
            assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), path

    api.run(scenario)


def test_an_account_has_at_most_so_many_segments_and_serves_fewer(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        for _ in range(MAX_SERVED):
            await save(http, rule("and", 1), served=True)
        body = {"name": "n", "rule": rule("and", 1), "served": True}
        answer = await http.post(PATH, json=body)
        assert (answer.status_code, answer.json()["error"]) == (409, "limit_reached")
        unserved = await save(http, rule("and", 1))
        assert (await http.put(f"{PATH}/{unserved}", json=body)).status_code == 409
        text = api.redis.hget(keys.segments("acme"), unserved)
        copies = {f"{n:x}": text for n in range(MAX_SEGMENTS - MAX_SERVED - 1)}
        api.redis.hset(keys.segments("acme"), mapping=copies)
        assert (await http.post(PATH, json={**body, "served": False})).status_code == 409
        assert (await http.post(f"{PATH}/{unserved}/duplicate")).status_code == 409

    api.run(scenario)


def test_and_or_and_not_decide_about_a_visitor_whose_id_may_hold_slashes(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        everybody = ("a", "b", "ab/c", "unknown")
        for given, wanted in (
            (rule("and", 1, 2), ["ab/c"]),
            (rule("or", 1, 2), ["a", "b", "ab/c"]),
            (rule("not", 2), ["a", "unknown"]),
            (rule("and", rule("or", 1, 2), rule("not", 3)), ["a", "b"]),
            (rule("and"), []),
            (rule("not"), []),
        ):
            assert await matching(http, await save(http, given), *everybody) == wanted, given

    api.run(scenario)


def test_a_segment_whose_audiences_were_all_removed_or_emptied_matches_nobody(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        rules = (rule("and", 1), rule("or", 1, 2), rule("not", 1), rule("and", rule("not", 1), rule("not", 2)))
        saved = [await save(http, given) for given in rules]
        api.subscribe(1, status="REMOVED", epoch=1)
        api.redis.zrem(keys.index("acme"), "2")
        for mpid in ("b", "ab/c"):
            api.redis.srem(keys.of_visitor(shard_of(visitor_key("acme", mpid), 8), "acme", mpid).members, "2")
        for segment_id in saved:
            assert await matching(http, segment_id, "a", "b", "ab/c", "unknown") == []
        assert [(s["size"], s["exact"]) for s in (await http.get(PATH)).json()["segments"]] == [(0, True)] * 4

    api.run(scenario)


def test_who_was_erased_matches_nothing(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        segment_id = await save(http, rule("not", 1), served=True)
        api.redis.set(keys.of_visitor(shard_of(visitor_key("acme", "b"), 8), "acme", "b").suppression, "1")
        api.redis.delete(keys.of_visitor(shard_of(visitor_key("acme", "b"), 8), "acme", "b").members)
        assert await matching(http, segment_id, "b") == []
        assert (await http.get("/accounts/acme/segments/b")).json() == []

    api.run(scenario)


def test_an_audience_removed_since_may_stay_in_a_segment_but_not_come_into_one(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        one = f"{PATH}/{await save(http, rule('or', 1, 2))}"
        api.subscribe(1, status="REMOVED", epoch=1)
        api.subscribe(3, status="REMOVED", epoch=1)
        assert (await http.put(one, json={"name": "renamed", "rule": rule("or", 1, 2)})).status_code == 200
        assert (await http.put(one, json={"name": "n", "rule": rule("or", 1, 3)})).status_code == 422

    api.run(scenario)


def rows(answer: httpx.Response) -> dict[str, str]:
    return {row["segment"]: row["value"] for row in answer.json()}


def test_a_served_segment_is_a_row_at_once_and_until_it_is_deleted(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        assert rows(await http.get("/accounts/acme/segments/a")) == {"1": "member"}
        segment_id = await save(http, rule("and", 1, rule("not", 2)), served=True)
        await save(http, rule("and", 1))
        assert rows(await http.get("/accounts/acme/segments/a")) == {"1": "member", f"segment:{segment_id}": "member"}
        assert rows(await http.get("/accounts/acme/segments/b")) == {"2": "member"}
        enter(api, "a", "2")
        assert rows(await http.get("/accounts/acme/segments/a")) == {"1": "member", "2": "member"}
        assert (await http.delete(f"{PATH}/{segment_id}")).status_code == 204
        api.redis.srem(keys.of_visitor(shard_of(visitor_key("acme", "a"), 8), "acme", "a").members, "2")
        assert rows(await http.get("/accounts/acme/segments/a")) == {"1": "member"}

    api.run(scenario)


def test_a_served_not_is_a_row_for_a_visitor_who_is_unknown(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        segment_id = await save(http, rule("not", 1), served=True)
        for _ in range(2):  # the first answer, and one out of the cache
            assert rows(await http.get("/accounts/acme/segments/unknown")) == {f"segment:{segment_id}": "member"}

    api.run(scenario)


def test_a_segment_that_a_visitor_has_just_left_says_so(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        segment_id = await save(http, rule("and", 1, rule("not", 2)), served=True)
        enter(api, "a", "2")
        now = api.redis.time()[0] * 1000
        guards = keys.of_visitor(shard_of(visitor_key("acme", "a"), 8), "acme", "a").guards
        api.redis.hset(guards, mapping={"r": now, "2": now})
        assert rows(await http.get("/accounts/acme/segments/a"))[f"segment:{segment_id}"] == "left"

    api.run(scenario)


def test_an_estimate_needs_no_saved_segment(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await populate(api, http)
        for given, size in ((rule("and", 1), 2), (rule("and", 1, 2), 1), (rule("or", 1, 2), 3), (rule("not", 1), 1)):
            answer = await http.post(f"{PATH}/estimate", json={"rule": given})
            assert answer.json() == {"size": size, "exact": True, "error": None}

    api.run(scenario)
