"""The few words of ASGI that this service speaks itself."""

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from audience_core.http_answer import Header

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[Header, ...]

JSON_TYPE: Header = (b"content-type", b"application/json")
RETRY_AFTER: Header = (b"retry-after", b"1")


async def answer(
    scope: Scope, send: Send, status: int, body: bytes = b"", headers: Iterable[Header] = (JSON_TYPE,)
) -> None:
    """Send a whole answer; HEAD gets its headers alone."""
    sized = [*headers, (b"content-length", str(len(body)).encode())] if status != 204 else [*headers]  # noqa: PLR2004
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def error_body(code: str, message: str) -> bytes:
    """Encode the JSON of every error: `{"error": code, "message": what is wrong and what to do}`."""
    return json.dumps({"error": code, "message": message}, ensure_ascii=False).encode()


def header_of(scope: Scope, name: bytes) -> bytes:
    """Value of a header, empty when it is absent. `name` in lower case."""
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")
