"""Sessions, forms and headers: what keeps everybody else out."""

import json

import httpx
import pytest

from tests.console.pages import ACCOUNT, TOKEN, Browser, signed_in, text_of
from tests.segment_api.support import Api

PAGES = [
    "",
    "/accounts",
    "/accounts/acme/audiences",
    "/accounts/acme/segments",
    "/accounts/acme/visitors?mpid=1",
    "/no",
]
POSTS = [
    ("/sign-out", {}),
    ("/accounts", {"id": "other", "name": "Other"}),
    ("/accounts/acme/integrations/pull/mparticle", {"name": "Shop"}),
    ("/accounts/acme/integrations/api-keys", {}),
    ("/accounts/acme/visitors/erase", {"mpid": "1"}),
    ("/accounts/acme/segments/new", {"name": "S", "rule": '{"op":"and","items":[]}'}),
]


def test_a_page_without_a_session_leads_to_the_form_and_back(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        browser = Browser(http)
        await browser.sign_in()
        await browser.post("/console/accounts", id="acme", name="Acme")
        await browser.post("/console/sign-out")
        sent = await browser.get(f"{ACCOUNT}/audiences?q=a%26b")
        form = await browser.follow(sent)
        assert 'name="next" value="/console/accounts/acme/audiences?q=a%26b"' in form.text
        answer = await browser.post("/console/sign-in", token=TOKEN, next=f"{ACCOUNT}/audiences?q=a%26b")
        assert answer.headers["location"] == f"{ACCOUNT}/audiences?q=a%26b"

    api.run(scenario)


@pytest.mark.parametrize("path", PAGES)
def test_without_a_session_there_is_no_page(api: Api, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get(f"/console{path}", headers={"accept": "text/html"})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/console/sign-in?next=")

    api.run(scenario)


@pytest.mark.parametrize("path", ["/accounts/acme/live", "/accounts/acme/segments/size", "/accounts/acme/audiences"])
def test_without_a_session_there_is_no_data_and_no_stream(api: Api, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for headers in ({"accept": "text/event-stream"}, {"accept": "text/html", "x-console-part": "refresh"}):
            answer = await http.get(f"/console{path}", headers=headers)
            assert answer.status_code == 401
            assert "audience" not in text_of(answer).lower().replace("audience stream", "")

    api.run(scenario)


@pytest.mark.parametrize(("path", "fields"), POSTS)
@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "é"])
def test_a_post_without_the_pages_token_is_refused_and_changes_nothing(
    api: Api, path: str, fields: dict[str, str], csrf: str | None
) -> None:
    async def scenario(browser: Browser) -> None:
        before = sorted(key for key in api.redis.keys("*") if "console:" not in key)
        accounts = api.redis.hgetall("accounts")
        answer = await browser.http.post(f"/console{path}", data=fields if csrf is None else {"csrf": csrf, **fields})
        assert answer.status_code == 403
        assert sorted(key for key in api.redis.keys("*") if "console:" not in key) == before
        assert (api.redis.hgetall("accounts"), api.sender.sent) == (accounts, [])
        assert (await browser.get(f"{ACCOUNT}/audiences")).status_code == 200  # still signed in

    signed_in(api, scenario)


@pytest.mark.parametrize(("path", "fields"), POSTS)
def test_a_post_without_a_session_is_refused_whatever_token_it_has(api: Api, path: str, fields: dict[str, str]) -> None:
    async def scenario(browser: Browser) -> None:
        browser.http.cookies.clear()
        answer = await browser.post(f"/console{path}", **fields)
        assert answer.status_code == 401

    signed_in(api, scenario)


@pytest.mark.parametrize(("path", "fields"), POSTS[1:])
def test_every_post_redirects(api: Api, path: str, fields: dict[str, str]) -> None:
    async def scenario(browser: Browser) -> None:
        assert (await browser.post(f"/console{path}", **fields)).status_code == 303

    signed_in(api, scenario)


def test_the_token_of_another_session_is_refused(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        other = browser.csrf
        browser.http.cookies.clear()
        await browser.sign_in()
        assert (await browser.post("/console/accounts", csrf=other, id="x", name="X")).status_code == 403

    signed_in(api, scenario)


def test_a_wrong_token_shows_the_field_again_with_an_alert(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        browser = Browser(http)
        form = await browser.sign_in("wrong")
        assert 'role="alert"' in form.text
        assert "Admin token" in text_of(form)
        assert "console_session" not in http.cookies
        assert "wrong" not in str(form.url).replace("alert=wrong", "")

    api.run(scenario)


def test_after_ten_wrong_tokens_even_the_right_one_waits(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        browser = Browser(http)
        for _ in range(10):
            await browser.sign_in("wrong")
        form = await browser.sign_in()
        assert "Too many attempts" in text_of(form)
        assert "console_session" not in http.cookies
        api.redis.delete(*api.redis.keys("console:attempts:*"))  # as their expiry does
        await browser.sign_in()
        assert "console_session" in http.cookies

    api.run(scenario)


def test_the_admin_token_is_in_no_cookie_page_url_or_store(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        browser = Browser(http)
        await browser.get("/console/sign-in")
        answer = await browser.post("/console/sign-in", token=TOKEN)
        page = await browser.follow(answer)
        seen = [answer.text, str(answer.headers), page.text, str(page.headers), str(page.url), str(dict(http.cookies))]
        stored = [json.dumps(api.redis.hgetall(key)) for key in api.redis.keys("console:session:*")]
        assert stored
        assert not [text for text in seen + stored + api.redis.keys("*") if TOKEN in text]
        # nor does what is stored open a session
        cookie = http.cookies["console_session"]
        assert not [text for text in stored + api.redis.keys("*") if cookie in text]

    api.run(scenario)


@pytest.mark.parametrize(("forwarded", "secure"), [("https", True), ("http", False), (None, False)])
def test_the_cookie_is_http_only_strict_and_secure_behind_tls(api: Api, forwarded: str | None, secure: bool) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        if forwarded:
            http.headers["x-forwarded-proto"] = forwarded
        browser = Browser(http)
        await browser.get("/console/sign-in")
        cookies = http.cookies
        csrf = browser.csrf
        answer = await http.post(
            "/console/sign-in",
            data={"csrf": csrf, "token": TOKEN},
            # a client on plain HTTP would keep a secure cookie to itself
            headers={"cookie": "; ".join(f"{c.name}={c.value}" for c in cookies.jar)},
        )
        cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("console_session="))
        assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= set(cookie.split("; "))
        assert ("Secure" in cookie.split("; ")) == secure

    api.run(scenario)


def test_signing_out_ends_the_session_for_every_copy_of_the_cookie(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        copied = browser.http.cookies["console_session"]
        await browser.follow(await browser.post("/console/sign-out"))
        answer = await browser.http.get(f"{ACCOUNT}/audiences", headers={"cookie": f"console_session={copied}"})
        assert answer.status_code == 303

    signed_in(api, scenario)


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/console/\\evil", "/consolex", "/console/\r\nx: y"]
)
def test_signing_in_leads_to_no_other_site(api: Api, target: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        browser = Browser(http)
        await browser.get("/console/sign-in")
        answer = await browser.post("/console/sign-in", token=TOKEN, next=target)
        assert answer.headers["location"] == "/console"

    api.run(scenario)


def test_every_answer_carries_the_policy_and_no_frame_and_no_referrer(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        answers = [
            await browser.get(f"/console{path}") for path in (*PAGES, "/sign-in", "/static/no.css", "/accounts/no/live")
        ]
        answers.append(await browser.http.post("/console/accounts", data={}))
        answers.append(await browser.http.post("/console/accounts", json={}))
        answers.append(await browser.http.delete("/console/accounts"))
        answers.append(await browser.http.get("/console/static/console.css"))
        assert {answer.status_code for answer in answers} >= {200, 303, 403, 404, 405, 415}
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert (answer.headers["x-frame-options"], answer.headers["referrer-policy"]) == ("DENY", "no-referrer")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert " style=" not in answer.text
            assert "<script>" not in answer.text

    signed_in(api, scenario)


def test_error_pages_show_the_menu(api: Api) -> None:
    async def scenario(browser: Browser) -> None:
        for path in ("/no", "/accounts/nobody/audiences", "/accounts/acme/audiences/7", "/accounts/acme/segments/no"):
            answer = await browser.get(f"/console{path}")
            assert answer.status_code == 404
            text = text_of(answer)
            for word in ("Integrations", "Integration Hub", "Pull", "API key", "Segments"):
                assert word in text

    signed_in(api, scenario)


def test_without_redis_the_page_says_so_with_503_and_the_menu() -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get(f"{ACCOUNT}/audiences", headers={"cookie": "console_session=x", "accept": "text/html"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "can't be reached" in text_of(answer)
        assert "Segments" in text_of(answer)
        assert "content-security-policy" in answer.headers

    Api("redis://127.0.0.1:1/0").run(scenario)
