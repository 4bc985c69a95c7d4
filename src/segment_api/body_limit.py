"""Refuses large bodies of control requests before anything parses them."""

from segment_api.asgi import JSON_TYPE, AsgiApp, Event, Receive, Scope, Send, answer, error_body, header_of


class BodyLimit:
    """ASGI middleware: 413 over `limit` bytes.

    A body is read as a whole before the application sees it: what this API takes is small, and only so can a body of
    unknown length be refused with the right status.
    """

    def __init__(self, app: AsgiApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        events = await self._read(scope, receive)
        if events is None:
            message = f"the body is over {self._limit} bytes; send less"
            await answer(scope, send, 413, error_body("too_large", message), [JSON_TYPE, (b"connection", b"close")])
            return
        waiting = iter(events)

        async def again() -> Event:
            event = next(waiting, None)
            return event if event is not None else await receive()

        await self._app(scope, again, send)

    async def _read(self, scope: Scope, receive: Receive) -> list[Event] | None:
        length = header_of(scope, b"content-length")
        if length.isdigit() and int(length) > self._limit:
            return None
        events: list[Event] = []
        size, more = 0, True
        while more:
            event = await receive()
            events.append(event)
            size += len(event.get("body", b""))
            if size > self._limit:
                return None
            more = event["type"] == "http.request" and event.get("more_body", False)
        return events
