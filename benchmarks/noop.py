"""The ceiling of the HTTP services: an application that reads a request and answers, on the same server."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
_BODY = {"type": "http.response.body", "body": b"[]"}


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Speak ASGI: `[]` to everything."""
    if scope["type"] != "http":
        return
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)


if __name__ == "__main__":
    config = uvicorn.Config(
        app, port=int(sys.argv[1]), http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    uvloop.run(uvicorn.Server(config).serve())
