"""`…/live`: a stream that says that something of the account changed. What it is, the page asks for itself.

So a stream that was cut loses nothing: it begins with a change, and the page then shows what is true now.
"""

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from audience_core.errors import RedisUnavailable
from segment_api.console.visit import Page, Visit

BEAT_S = 10.0
RECONNECT_MS = 2000


async def stream(visit: Visit) -> Response:
    """Server-sent events: `changed`, with the kinds of change as its data; the first one names all kinds."""
    return StreamingResponse(_events(visit), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _events(visit: Visit) -> AsyncIterator[str]:
    changes = visit.services.changes
    watch = changes.watch(visit.account_id)
    try:
        yield f"retry: {RECONNECT_MS}\n\n"
        while not changes.closing:
            kinds = await watch.wait(BEAT_S)
            if changes.closing or not await _still_signed_in(visit):
                return
            yield f"event: changed\ndata: {' '.join(sorted(kinds))}\n\n" if kinds else ": still here\n\n"
    finally:
        changes.unwatch(visit.account_id, watch)


async def _still_signed_in(visit: Visit) -> bool:
    try:
        return await visit.services.sessions.read(visit.session.cookie) is not None
    except RedisUnavailable:
        return True  # nobody can tell now; the next look decides


ROUTES: list[tuple[str, str, Page]] = [("GET", "/live", stream)]
