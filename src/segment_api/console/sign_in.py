"""Signing in with the admin token, and out again."""

import hmac
import secrets
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from segment_api.console.pages import render
from segment_api.console.sessions import MAX_ATTEMPTS, SESSION_S, SessionStore
from segment_api.console.visit import BASE, Visit, read_form

PATH = f"{BASE}/sign-in"
COOKIE = "console_session"
FORM_COOKIE = "console_form"
ALERTS = {
    "wrong": "That is not the admin token. Check for a missing or extra character, and try again.",
    "often": "Too many attempts from here. Wait a minute, then try again.",
    "old": "This form had waited too long. Please try again.",
}


def address(path: str, query: str) -> str:
    """URL of the form that leads on to a page."""
    return f"{PATH}?next={quote(f'{path}?{query}' if query else path)}"


class SignIn:
    """The only pages without a session."""

    def __init__(self, sessions: SessionStore) -> None:
        self._sessions = sessions

    async def show(self, request: Request) -> Response:
        """The form."""
        cookie = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(16)
        answer = render(
            "sign_in.html",
            csrf=self._sessions.form_token(cookie),
            alert=ALERTS.get(request.query_params.get("alert", "")),
            next_page=_inside(request.query_params.get("next", "")),
        )
        _set_cookie(request, answer, FORM_COOKIE, cookie)
        return answer

    async def post(self, request: Request) -> Response:
        """Try a token. A wrong one leads back to the form."""
        form = await read_form(request)
        next_page = _inside(form.get("next", ""))
        cookie = request.cookies.get(FORM_COOKIE, "")
        expected = self._sessions.form_token(cookie)
        if not cookie or not hmac.compare_digest(form.get("csrf", "").encode(), expected.encode()):
            raise HTTPException(403, "This form is no longer valid. Open the sign-in page again.")
        client = request.client.host if request.client else "unknown"
        if await self._sessions.failed_attempts(client) >= MAX_ATTEMPTS:
            return _again("often", next_page)
        token = self._sessions.admin_token(form.get("token", "").strip())
        if token is None:
            await self._sessions.note_failure(client)
            return _again("wrong", next_page)
        answer = RedirectResponse(next_page or BASE, 303)
        _set_cookie(request, answer, COOKIE, await self._sessions.begin(token), max_age=SESSION_S)
        answer.delete_cookie(FORM_COOKIE, path=BASE)
        return answer


async def sign_out(visit: Visit) -> Response:
    """End the session, here and in every other tab."""
    await visit.services.sessions.end(visit.session.cookie)
    answer = RedirectResponse(PATH, 303)
    answer.delete_cookie(COOKIE, path=BASE)
    return answer


def _again(alert: str, next_page: str) -> Response:
    return RedirectResponse(f"{PATH}?alert={alert}" + (f"&next={quote(next_page)}" if next_page else ""), 303)


def _inside(path: str) -> str:
    """The path when it is a page of the console: a link must not lead anywhere else."""
    return path if path.startswith(f"{BASE}/") and "\\" not in path and path.isprintable() else ""


def _set_cookie(request: Request, answer: Response, name: str, value: str, max_age: int | None = None) -> None:
    # behind a proxy that ends TLS the scheme is in a header; who forges it only keeps the cookie from themselves
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"
    answer.set_cookie(name, value, max_age, path=BASE, secure=secure, httponly=True, samesite="strict")
