"""One request of a signed-in person: who asks, about which account, and how to answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from audience_core.redis.control import Account
from segment_api.console.pages import render
from segment_api.console.services import Services
from segment_api.console.sessions import Session

BASE = "/console"
MAX_FORM_BYTES = 262_144

Page = Callable[["Visit"], Awaitable[Response]]


@dataclass
class Visit:
    """What a page needs. `form` and `query` hold the first value of each field."""

    request: Request
    services: Services
    session: Session
    form: dict[str, str] = field(default_factory=dict)
    accounts: list[Account] = field(default_factory=list)
    account: Account | None = None

    @property
    def account_id(self) -> str:
        """Id of the account in the path."""
        return self.account["id"] if self.account else ""

    @property
    def query(self) -> dict[str, str]:
        """Fields of the URL's query."""
        return dict(self.request.query_params)

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def url(self, path: str = "", **query: str) -> str:
        """URL of a page of this account; empty query fields are left out."""
        asked = urlencode({name: value for name, value in query.items() if value})
        return f"{BASE}/accounts/{quote(self.account_id)}{path}" + (f"?{asked}" if asked else "")

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page of the signed-in person."""
        return render(template, status=status, visit=self, **values)

    def to(self, path: str, **query: str) -> Response:
        """Redirect to a page of this account, as every post does."""
        return RedirectResponse(self.url(path, **query), 303)

    async def done(self, text: str) -> None:
        """Say on the next page what was done."""
        await self.services.sessions.notify(self.session, "done", text)

    async def failed(self, text: str) -> None:
        """Say on the next page what was not done, and why."""
        await self.services.sessions.notify(self.session, "failed", text)


async def read_form(request: Request) -> dict[str, str]:
    """Fields of a posted form. Raises HTTPException 413 over the limit, 415 for another encoding, 400 for no text."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in {"application/x-www-form-urlencoded", ""}:  # an empty form comes without a type
        raise HTTPException(415, "This is not a form of the console.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, "The form is too large.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        raise HTTPException(400, "The form can't be read.") from None
    return dict(reversed(pairs))
