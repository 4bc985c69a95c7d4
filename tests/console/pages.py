"""The console spoken to as a browser without scripts would: forms out of pages, cookies, redirects."""

import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

from tests.segment_api.support import Api

TOKEN = "admin-token-of-the-tests"
ACCOUNT = "/console/accounts/acme"


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.csrf = ""
        self.text: list[str] = []
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("name") == "csrf":
            self.csrf = given.get("value") or ""
        self._silent = tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def csrf_of(page: httpx.Response) -> str:
    """Token of a page's forms."""
    forms = _Forms()
    forms.feed(page.text)
    return forms.csrf


def text_of(page: httpx.Response) -> str:
    """What a person reads."""
    forms = _Forms()
    forms.feed(page.text)
    return re.sub(r"\s+", " ", " ".join(forms.text))


class Browser:
    """One browser. Posts carry the token of the page last seen, and redirects are followed by hand."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        http.headers["accept"] = "text/html"
        self.csrf = ""

    async def get(self, path: str, **query: str) -> httpx.Response:
        answer = await self.http.get(path, params=query or None)
        self.csrf = csrf_of(answer) or self.csrf
        return answer

    async def post(self, path: str, **fields: str) -> httpx.Response:
        return await self.http.post(path, data={"csrf": self.csrf, **fields})

    async def follow(self, answer: httpx.Response) -> httpx.Response:
        assert answer.status_code == 303, (answer.status_code, answer.text[:500])
        while answer.status_code == 303:
            answer = await self.get(urljoin(str(answer.request.url), answer.headers["location"]))
        return answer

    async def sign_in(self, token: str = TOKEN) -> httpx.Response:
        await self.get("/console/sign-in")
        return await self.follow(await self.post("/console/sign-in", token=token))


def signed_in(api: Api, scenario: Callable[[Browser], Awaitable[None]]) -> None:
    """Run a scenario of somebody who is signed in, with the account `acme`."""

    async def scene(http: httpx.AsyncClient) -> None:
        browser = Browser(http)
        await browser.sign_in()
        await browser.follow(await browser.post("/console/accounts", id="acme", name="Acme"))
        await scenario(browser)

    api.run(scene)
