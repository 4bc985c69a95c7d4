"""`GET /accounts/{account}/segments/{visitor_id}` as an SDK calls it."""

import asyncio
import gc
import time
from collections.abc import Iterator

import httpx
import pytest
import redis

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from tests.segment_api.support import ADMIN, Api, create_account


@pytest.fixture(scope="module", autouse=True)
def leftovers_of_other_tests_are_not_walked() -> Iterator[None]:
    """A service holds its own objects alone; here the collector would walk those of a thousand tests too."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def enter(api: Api, mpid: str, *members: str, account: str = "acme") -> None:
    shard = shard_of(visitor_key(account, mpid), 8)
    api.redis.sadd(keys.of_visitor(shard, account, mpid).members, *members)


@pytest.mark.parametrize(
    ("mpid", "path"), [("-42", "-42"), ("a/b", "a/b"), ("é", "%C3%A9"), ("x/segments/y", "x/segments/y")]
)
def test_a_member_gets_rows_under_exactly_the_headers_that_sdks_need(api: Api, mpid: str, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        enter(api, mpid, "7")
        answer = await http.get(f"/accounts/acme/segments/{path}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == "no-store"
        (row,) = answer.json()
        assert (row["visitor_id"], row["segment"], row["value"], row["partner"]) == (mpid, "7", "member", "mparticle")

    api.run(scenario)


@pytest.mark.parametrize(
    "path", ["acme/segments/unknown", "a:b/segments/1", "acme/segments/", "acme/segments/%00", "é/segments/1"]
)
def test_what_is_unknown_or_impossible_has_no_segments(api: Api, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get(f"/accounts/{path}")
        assert (answer.status_code, answer.text) == (200, "[]")

    api.run(scenario)


def test_another_account_does_not_see_the_visitor(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        enter(api, "1", "7", account="other")
        assert (await http.get("/accounts/acme/segments/1")).text == "[]"

    api.run(scenario)


def test_a_removal_shows_in_the_very_next_answer(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        api.subscribe(7)
        enter(api, "1", "7")
        assert len((await http.get("/accounts/acme/segments/1")).json()) == 1
        api.subscribe(7, status="REMOVED", epoch=1)
        assert (await http.get("/accounts/acme/segments/1")).json() == []

    api.run(scenario)


def test_the_partner_is_the_one_of_the_first_connector_that_has_one(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        for partner in ("", "first", "second"):
            body = {"provider": "mparticle", "name": "n", "partner": partner}
            await http.post("/v1/accounts/acme/connectors", json=body, headers=ADMIN)
            await asyncio.sleep(0.002)  # connectors are ordered by the millisecond
        enter(api, "1", "7")
        assert (await http.get("/accounts/acme/segments/1")).json()[0]["partner"] == "first"

    api.run(scenario)


def test_head_options_and_other_methods_answer_as_http_says(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        path = "/accounts/acme/segments/1"
        head = await http.head(path)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "2", b"")
        preflight = await http.options(path)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
        post = await http.post(path)
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD, OPTIONS")

    api.run(scenario)


def test_without_redis_the_answer_is_empty_and_503() -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get("/accounts/acme/segments/1")
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "[]", "1")
        assert answer.headers["access-control-allow-origin"] == "*"

    Api("redis://127.0.0.1:1/0").run(scenario)


def test_a_frozen_redis_is_503_within_a_second_and_answers_rightly_after_it_thaws(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        paths = [f"/accounts/acme/segments/{mpid}" for mpid in range(200)]
        for mpid in range(200):
            enter(api, str(mpid), str(mpid))
        await asyncio.gather(*(http.get(path) for path in paths))
        with redis.Redis.from_url(api.redis_url) as admin:
            admin.execute_command("CLIENT", "PAUSE", "2000", "ALL")
        started = time.monotonic()
        frozen = await asyncio.gather(*(http.get(path) for path in paths))
        assert time.monotonic() - started < 1.0
        assert {answer.status_code for answer in frozen} == {503}
        await asyncio.sleep(1.5)
        thawed = await asyncio.gather(*(http.get(path) for path in paths))
        assert [[row["segment"] for row in answer.json()] for answer in thawed] == [[str(m)] for m in range(200)]

    api.run(scenario)


def test_a_crowd_larger_than_the_pool_is_served(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # what is promised is that nobody is turned away; how fast a crowd is served is measured by the benchmark
    for module in ("segment_api.app", "segment_api.segments"):
        monkeypatch.setattr(f"{module}.REDIS_BOUND_S", 10.0)

    async def scenario(http: httpx.AsyncClient) -> None:
        enter(api, "1", "7")
        answers = await asyncio.gather(*(http.get("/accounts/acme/segments/1") for _ in range(500)))
        assert {answer.status_code for answer in answers} == {200}

    api.run(scenario)
