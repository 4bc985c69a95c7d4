"""Headers of every answer of the console, errors and streams included."""

from audience_core.http_answer import Header
from segment_api.asgi import AsgiApp, Event, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

SAFE: list[Header] = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_NOT_KEPT: Header = (b"cache-control", b"no-store")


class SafeHeaders:
    """Adds the headers around an application."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""

        async def with_headers(event: Event) -> None:
            if event["type"] == "http.response.start":
                headers = [*event["headers"], *SAFE]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NOT_KEPT)
                event = {**event, "headers": headers}
            await send(event)

        await self._app(scope, receive, with_headers)
