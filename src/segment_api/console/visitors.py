"""One visitor by MPID, and their erasure."""

from starlette.responses import Response

from audience_core.domain.partitioning import MPID_MAX_CHARS, is_mpid
from segment_api.console.visit import Page, Visit
from segment_api.rules import matches
from segment_api.saved_segments import Segment
from segment_api.visitors import Visitor

PATH = "/visitors"
NO_MPID = f"An MPID has 1 to {MPID_MAX_CHARS} characters and no control characters."


async def show(visit: Visit) -> Response:
    """The look-up, and what is known of the visitor."""
    mpid = visit.query.get("mpid", "").strip()
    problem = NO_MPID if mpid and not is_mpid(mpid) else None
    visitor = await visit.services.visitors.read(visit.account_id, mpid) if mpid and not problem else None
    request_id = visit.query.get("erasure", "")
    return visit.page(
        "visitor.html",
        mpid=mpid,
        problem=problem,
        visitor=visitor,
        segments=await _matching(visit, visitor) if visitor else [],
        erasure=await visit.services.erasures.progress(visit.account_id, request_id) if request_id else None,
    )


async def _matching(visit: Visit, visitor: Visitor) -> list[Segment]:
    """Saved segments that a visitor matches. Of whom nothing is known, nothing is said."""
    members = {audience.audience_id for audience in visitor.audiences if audience.member}
    if not visitor.audiences:
        return []
    populated = (await visit.services.accounts.populated(visit.account_id)).counts.keys()
    saved = await visit.services.saved.list(visit.account_id)
    return [segment for segment in saved if matches(segment.rule, members, populated)]


async def confirm_erase(visit: Visit) -> Response:
    """Ask before a visitor is erased."""
    mpid = visit.query.get("mpid", "")
    if not is_mpid(mpid):
        return visit.to(PATH)
    visitor = await visit.services.visitors.read(visit.account_id, mpid)
    return visit.page("visitor_erase.html", mpid=mpid, visitor=visitor)


async def erase(visit: Visit) -> Response:
    """Erase a visitor: durable once this answers, carried out within about a second."""
    mpid = visit.form.get("mpid", "")
    if not is_mpid(mpid):
        await visit.failed(NO_MPID)
        return visit.to(PATH)
    request_id = await visit.services.eraser.erase(visit.account_id, mpid)
    await visit.done("The erasure was accepted and is durable. It usually takes effect within a second.")
    return visit.to(PATH, mpid=mpid, erasure=request_id)


ROUTES: list[tuple[str, str, Page]] = [
    ("GET", PATH, show),
    ("GET", PATH + "/erase", confirm_erase),
    ("POST", PATH + "/erase", erase),
]
