"""The pages without a script: forms, redirects, and what they show."""

import json
import re

import pytest

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from tests.console.pages import ACCOUNT, Browser, signed_in, text_of
from tests.segment_api.support import Api

HOSTILE = "<img src=x onerror=alert(1)>\u202e'\" &amp;"


def test_a_connector_is_set_up_and_deleted(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        assert "Not set up yet" in text_of(await browser.get(f"{ACCOUNT}/integrations/pull", q="MPART"))
        assert "No connector matches" in text_of(await browser.get(f"{ACCOUNT}/integrations/pull", q="nothing"))
        assert "Save and create connector" in text_of(await browser.get(f"{ACCOUNT}/integrations/pull/mparticle/new"))
        page = await browser.follow(await browser.post(f"{ACCOUNT}/integrations/pull/mparticle", name=" Web shop "))
        text = text_of(page)
        assert "Web shop" in text
        assert "No message received yet" in text
        assert "window.mParticle?.Identity?.getCurrentUser?.()?.getMPID?.()" in text
        path = page.url.path
        assert "Delete the connector?" in text_of(await browser.get(f"{path}/delete"))
        await browser.follow(await browser.post(f"{path}/delete"))
        assert (await browser.get(path)).status_code == 404

    signed_in(api, scenario)


def test_a_connector_without_a_name_is_not_made(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        for name in ("", "   ", "n" * 256):
            page = await browser.follow(await browser.post(f"{ACCOUNT}/integrations/pull/mparticle", name=name))
            assert "needs a name" in text_of(page)
        assert api.redis.hlen(keys.connectors("acme")) == 0

    signed_in(api, scenario)


def test_a_secret_is_on_one_page_once_and_stored_nowhere(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        answer = await browser.post(f"{ACCOUNT}/integrations/api-keys")
        stored = [
            text
            for key in api.redis.keys("console:*")
            if api.redis.type(key) == "string"
            for text in [api.redis.get(key)]
        ]
        page = await browser.follow(answer)
        secret = re.search(r'id="secret">([A-Za-z0-9_-]{43})<', page.text)
        assert secret
        assert not [text for text in stored if secret[1] in text or secret[1] in bytes.fromhex(text).decode("latin-1")]
        assert secret[1] not in answer.headers["location"]
        assert secret[1] not in (await browser.get(str(page.url))).text
        assert secret[1] not in (await browser.get(f"{ACCOUNT}/integrations/api-keys")).text

    signed_in(api, scenario)


def test_another_session_does_not_see_a_new_secret(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        answer = await browser.post(f"{ACCOUNT}/integrations/api-keys")
        browser.http.cookies.clear()
        await browser.sign_in()
        assert 'id="secret"' not in (await browser.follow(answer)).text

    signed_in(api, scenario)


def test_a_rotated_key_lives_beside_the_new_one_for_a_time_or_until_it_is_revoked(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        path = f"{ACCOUNT}/integrations/api-keys"
        await browser.follow(await browser.post(path))
        (old,) = api.redis.hkeys(keys.account_keys("acme"))
        page = await browser.follow(await browser.post(f"{path}/{old}/rotate"))
        assert 'id="secret"' in page.text
        statuses = {k: json.loads(v)["status"] for k, v in api.redis.hgetall(keys.account_keys("acme")).items()}
        assert list(statuses.values()) == ["active", "active"]
        assert "works until" in text_of(page)
        assert "stops working within seconds" in text_of(await browser.get(f"{path}/{old}/revoke"))
        await browser.follow(await browser.post(f"{path}/{old}/revoke"))
        assert json.loads(api.redis.hget(keys.account_keys("acme"), old))["status"] == "revoked"
        assert (await browser.post(f"{path}/nothing/revoke")).status_code == 404

    signed_in(api, scenario)


def test_the_listing_is_searched_ordered_and_paged(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        for n in range(60):
            api.subscribe(n, f"Audience {n:02}")
            api.count(n, 100 - n)
        api.subscribe(99, "Nobody yet")
        first = await browser.get(f"{ACCOUNT}/audiences")
        assert "60 populated, 1 empty or removed not shown" in text_of(first)
        assert "Page 1 of 2" in text_of(first)
        assert "Audience 55" not in text_of(first)
        assert "Audience 55" in text_of(await browser.get(f"{ACCOUNT}/audiences", page="2"))
        assert "Audience 55" in text_of(await browser.get(f"{ACCOUNT}/audiences", q="ence 55"))
        assert "No audience matches" in text_of(await browser.get(f"{ACCOUNT}/audiences", q="zzz"))
        everything = text_of(await browser.get(f"{ACCOUNT}/audiences", empty="1", q="nobody"))
        assert "Nobody yet" in everything
        assert "are not offered in the segment builder" in everything
        by_name = text_of(await browser.get(f"{ACCOUNT}/audiences", sort="name"))
        assert by_name.index("Audience 00") < by_name.index("Audience 01")
        for odd in ("0", "-1", "99999999999", "x", "²"):
            assert (await browser.get(f"{ACCOUNT}/audiences", page=odd, sort=odd)).status_code == 200

    signed_in(api, scenario)


def test_an_audience_shows_what_mparticle_said_and_its_charts(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        api.subscribe(7, HOSTILE)
        api.count(7, 3)
        page = await browser.get(f"{ACCOUNT}/audiences/7")
        assert "<img src=x" not in page.text
        assert "Nobody entered or left within the last hour" in text_of(page)
        for odd in ("8", "x", "7.0", "007"):
            assert (await browser.get(f"{ACCOUNT}/audiences/{odd}")).status_code == 404

    signed_in(api, scenario)


def test_a_visitor_is_looked_up_and_erased_after_a_question(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        api.subscribe(1, "Buyers")
        shard = shard_of(visitor_key("acme", "a/é"), 8)
        api.redis.sadd(keys.of_visitor(shard, "acme", "a/é").members, "1")
        assert "Member" in text_of(await browser.get(f"{ACCOUNT}/visitors", mpid="a/é"))
        assert "Nothing is known" in text_of(await browser.get(f"{ACCOUNT}/visitors", mpid="nobody"))
        assert "1 to 256 characters" in text_of(await browser.get(f"{ACCOUNT}/visitors", mpid="a\nb"))
        assert "can't be undone" in text_of(await browser.get(f"{ACCOUNT}/visitors/erase", mpid="a/é"))
        assert api.sender.sent == []
        await browser.follow(await browser.post(f"{ACCOUNT}/visitors/erase", mpid="a/é"))
        (record,) = api.sender.sent
        kind, erased = Codec().decode(record.value)
        assert (kind, erased["account"], erased["mpid"]) == ("VisitorErased", "acme", "a/é")

    signed_in(api, scenario)


def test_an_erasure_that_kafka_does_not_take_says_so(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        api.sender.away = True
        answer = await browser.post(f"{ACCOUNT}/visitors/erase", mpid="1")
        assert answer.status_code == 503
        assert "Nothing was changed" in text_of(answer)

    signed_in(api, scenario)


def test_the_accounts_are_switched_and_are_walls(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        api.subscribe(1, "Buyers of Acme")
        api.count(1, 5)
        await browser.follow(await browser.post("/console/accounts", id="other", name="Other"))
        page = await browser.follow(await browser.post("/console/accounts/open", account="other"))
        assert page.url.path == "/console/accounts/other/integrations/pull"
        assert "Buyers of Acme" not in text_of(await browser.get("/console/accounts/other/audiences"))
        assert (await browser.get("/console/accounts/other/audiences/1")).status_code == 404
        for bad in ({"id": "a:b", "name": "n"}, {"id": "acme", "name": "n"}, {"id": "new", "name": ""}):
            assert 'role="alert"' in (await browser.follow(await browser.post("/console/accounts", **bad))).text
        assert sorted(api.redis.hkeys("accounts")) == ["acme", "other"]

    signed_in(api, scenario)


@pytest.mark.parametrize("query", ["rule={", "rule=[]", 'rule={"op":"xor","items":[]}', "rule=%ff"])
def test_a_rule_that_cannot_be_read_is_422(api: Api, query: str) -> None:
    async def scenario(browser: Browser) -> None:
        assert (await browser.get(f"{ACCOUNT}/segments/new?{query}")).status_code == 422

    signed_in(api, scenario)


def test_without_a_script_a_segment_is_built_saved_copied_renamed_and_deleted(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        for audience_id in (1, 2):
            api.subscribe(audience_id, f"Audience {audience_id}")
            api.count(audience_id, 10)
        api.subscribe(3, "Empty one")
        path = f"{ACCOUNT}/segments/new"
        page = await browser.get(path)
        for edit in ("add:1:", "group:", "add:2:1", "op:not:1"):
            fields = {n: draft_field(page.text, n) for n in ("rule", "target")}
            page = await browser.follow(await browser.post(f"{path}/edit", do=edit, name="Mine", **fields))
        rule = {"op": "and", "items": [{"audience_id": 1}, {"op": "not", "items": [{"audience_id": 2}]}]}
        assert json.loads(draft_field(page.text, "rule")) == rule
        assert "Visitors in “Audience 1” and not in “Audience 2”." in text_of(page)
        refused = await browser.follow(await browser.post(f"{path}/edit", do="add:3:", rule=json.dumps(rule)))
        assert "has no visitor" in text_of(refused)
        assert json.loads(draft_field(refused.text, "rule")) == rule
        saved = await browser.follow(await browser.post(path, name="Mine", rule=json.dumps(rule)))
        assert "was saved" in text_of(saved)
        one = saved.url.path
        await browser.follow(await browser.post(one, name="Renamed", rule=json.dumps(rule), served="1"))
        copied = await browser.follow(await browser.post(f"{one}/duplicate"))
        assert "Copy of Renamed" in text_of(copied)
        assert "Delete the segment?" in text_of(await browser.get(f"{one}/delete"))
        listed = await browser.follow(await browser.post(f"{one}/delete"))
        assert "“Renamed” was deleted" in text_of(listed)
        assert [json.loads(text)["name"] for text in api.redis.hvals(keys.segments("acme"))] == ["Copy of Renamed"]

    signed_in(api, scenario)


def test_a_segment_without_a_name_is_not_saved_and_the_draft_stays(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        api.subscribe(1, "Buyers")
        api.count(1, 10)
        rule = '{"op":"or","items":[{"audience_id":1}]}'
        page = await browser.follow(await browser.post(f"{ACCOUNT}/segments/new", name="", rule=rule))
        assert "needs a name" in text_of(page)
        assert json.loads(draft_field(page.text, "rule")) == json.loads(rule)
        unknown = '{"op":"or","items":[{"audience_id":99}]}'
        page = await browser.follow(await browser.post(f"{ACCOUNT}/segments/new", name="N", rule=unknown))
        assert "no longer subscribed" in text_of(page)
        assert api.redis.hlen(keys.segments("acme")) == 0

    signed_in(api, scenario)


def draft_field(page: str, name: str) -> str:
    """A field of the builder's draft."""
    from html import unescape

    draft = page[page.index('id="draft"') :]
    found = re.search(rf'name="{name}" value="([^"]*)"', draft)
    assert found
    return unescape(found[1])
