"""The console as one ASGI application: routes, the gate before them, and errors as pages."""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from audience_core.domain.partitioning import is_account
from audience_core.errors import AlreadyExists, NotFound, RetryableError
from audience_core.redis.control import Account
from segment_api.asgi import AsgiApp
from segment_api.console import accounts, api_keys, audiences, connectors, live, segments, sign_in, visitors
from segment_api.console.headers import SafeHeaders
from segment_api.console.pages import render, static_file, static_version
from segment_api.console.services import Services
from segment_api.console.sessions import Session
from segment_api.console.visit import BASE, Page, Visit, read_form

PART_HEADER = "x-console-part"
"""Scripts send it when they fetch a page for its parts."""

REFRESH = "refresh"
"""Nobody asked for these parts: notices wait for a page that somebody looks at."""

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


Endpoint = Callable[[Request], Awaitable[Response]]


class LoggedRoute(NamedTuple):
    """What the access log says instead of a path: paths hold account ids and more."""

    path: str


def is_console_path(path: str) -> bool:
    """Whether the console answers this path."""
    return path == BASE or path.startswith(f"{BASE}/")


def create_console(services: Services) -> AsgiApp:
    """Make the application. It answers every path below `/console`."""
    signing = sign_in.SignIn(services.sessions)
    gate = _Gate(services)
    pages = [
        ("GET", "", accounts.start),
        ("GET", "/", accounts.start),
        ("POST", "/sign-out", sign_in.sign_out),
        *accounts.ROUTES,
        *_of_account(
            live.ROUTES + connectors.ROUTES + api_keys.ROUTES + audiences.ROUTES + visitors.ROUTES + segments.ROUTES
        ),
        ("GET", "/{rest:path}", _nothing),
        ("POST", "/{rest:path}", _nothing),
    ]
    app = Starlette(
        routes=[
            Route(f"{BASE}/static/{{name}}", _static, methods=["GET"]),
            Route(sign_in.PATH, _logged(signing.show), methods=["GET"]),
            Route(sign_in.PATH, _logged(signing.post), methods=["POST"]),
            *(Route(BASE + path, gate.endpoint(BASE + path, page), methods=[method]) for method, path, page in pages),
        ],
        exception_handlers={
            HTTPException: _http_error,
            NotFound: _not_found,
            AlreadyExists: _taken,
            RetryableError: _away,
            Exception: _fault,
        },
    )
    app.router.redirect_slashes = False
    return SafeHeaders(app)


def _logged(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        request.scope["route"] = LoggedRoute(sign_in.PATH)
        return await endpoint(request)

    return answer


def _of_account(routes: Iterable[tuple[str, str, Page]]) -> list[tuple[str, str, Page]]:
    return [(method, "/accounts/{account}" + path, page) for method, path, page in routes]


class _Gate:
    """Lets nobody through without a session, and no post without the token of one of its pages."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def endpoint(self, path: str, page: Page) -> Endpoint:
        """As Starlette takes a page."""

        async def answer(request: Request) -> Response:
            request.scope["route"] = LoggedRoute(path)
            fresh = request.method == "GET" and request.headers.get(PART_HEADER) != REFRESH
            cookie = request.cookies.get(sign_in.COOKIE, "")
            session = await self._services.sessions.read(cookie, take_notices=fresh)
            if session is None:
                return _sent_to_sign_in(request)
            return await page(await self._visit(request, session))

        return answer

    async def _visit(self, request: Request, session: Session) -> Visit:
        visit = Visit(request, self._services, session)
        request.state.visit = visit  # the error pages show the menu of the same person
        if request.method == "POST":
            visit.form = await read_form(request)
            if not session.accepts(visit.form.get("csrf", "")):
                raise HTTPException(403, "This form is no longer valid. Reload the page that it was on, and try again.")
        visit.accounts = await self._services.store.accounts()
        asked = request.path_params.get("account")
        if asked is not None:
            visit.account = _chosen(visit.accounts, asked)
        return visit


def _chosen(accounts: list[Account], asked: str) -> Account:
    found = next((account for account in accounts if account["id"] == asked), None) if is_account(asked) else None
    if found is None:
        raise NotFound("there is no such account")
    return found


def _sent_to_sign_in(request: Request) -> Response:
    """A person who follows a link signs in first and goes on there; a script or a form is told 401."""
    if (
        request.method == "GET"
        and PART_HEADER not in request.headers
        and "text/html" in request.headers.get("accept", "")
    ):
        return RedirectResponse(sign_in.address(request.url.path, request.url.query), 303)
    return render("signed_out.html", status=401)


async def _nothing(_: Visit) -> Response:
    raise HTTPException(404)


async def _static(request: Request) -> Response:
    request.scope["route"] = LoggedRoute(f"{BASE}/static")
    name = request.path_params["name"]
    content = static_file(name)
    if content is None:
        raise HTTPException(404)
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    # an address with a version changes with the content; scripts import one another without
    kept = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
    headers = {"cache-control": kept, "etag": f'"{static_version(name)}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=kind)


def _error(request: Request, status: int, title: str, text: str) -> Response:
    visit = getattr(request.state, "visit", None)
    return render("error.html", status=status, visit=visit, title=title, text=text)


def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:  # noqa: PLR2004
        return _not_found(request, error)
    if status == 405:  # noqa: PLR2004
        return _error(request, 405, "That can't be done here", "This address does not take such a request.")
    text = error.detail if isinstance(error, HTTPException) else ""
    return _error(request, status, "The request was refused", text)


def _not_found(request: Request, _: Exception) -> Response:
    return _error(request, 404, "There is nothing here", "The page, or what it showed, does not exist or was deleted.")


def _taken(request: Request, _: Exception) -> Response:
    return _error(request, 409, "That exists already", "Go back and choose another id.")


def _away(request: Request, _: Exception) -> Response:
    answer = _error(
        request,
        503,
        "The data can't be reached right now",
        "Redis or Kafka does not answer. Nothing was changed. Try again in a moment.",
    )
    answer.headers["retry-after"] = "1"
    return answer


def _fault(request: Request, _: Exception) -> Response:
    return _error(request, 500, "Something went wrong here", "The fault is logged. Try again; if it stays, report it.")
