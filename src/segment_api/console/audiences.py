"""Audiences of an account, with live counts."""

import time

from starlette.responses import Response

from audience_core.errors import NotFound
from segment_api.console.charts import HEIGHT, LEFT, RIGHT, WIDTH, bar_chart, line_chart
from segment_api.console.pages import paged
from segment_api.console.visit import Page, Visit
from segment_api.listing import ListedAudience

SORTS = {"count": "Most visitors", "name": "Name", "updated": "Last change"}


def searched(audiences: list[ListedAudience], q: str) -> list[ListedAudience]:
    """Those with a part of their name, or with exactly the id, as the HTTP API searches."""
    return [a for a in audiences if q.casefold() in a.name.casefold() or q == str(a.audience_id)]


def in_order(audiences: list[ListedAudience], sort: str) -> list[ListedAudience]:
    """In one of SORTS; the listing comes by count."""
    if sort == "name":
        return sorted(audiences, key=lambda a: (a.name.casefold(), a.audience_id))
    if sort == "updated":
        return sorted(audiences, key=lambda a: a.updated_at, reverse=True)
    return audiences


async def listed(visit: Visit) -> Response:
    """The listing: search, order, page."""
    query = visit.query
    q, sort = query.get("q", "").strip(), query.get("sort", "count")
    empty = query.get("empty") == "1"
    found = await visit.services.listing.read(visit.account_id, populated=False)
    populated = [a for a in found if a.status == "active" and a.count > 0]
    matching = in_order(searched(found if empty else populated, q), sort)
    shown, page, pages = paged(matching, query.get("page", ""))
    return visit.page(
        "audiences.html",
        q=q,
        sort=sort if sort in SORTS else "count",
        sorts=SORTS,
        empty=empty,
        audiences=shown,
        matching=len(matching),
        populated=len(populated),
        hidden=len(found) - len(populated),
        page=page,
        pages=pages,
    )


async def show(visit: Visit) -> Response:
    """One audience: what mParticle said of it, and how it has changed."""
    account, services = visit.account_id, visit.services
    catalog = (await services.accounts.populated(account)).catalog
    state = next((state for a, state in catalog.items() if str(a) == visit.part("audience")), None)
    if state is None:
        raise NotFound("there is no such audience")
    found = await services.listing.read(account, populated=False)
    audience = next(a for a in found if a.audience_id == state["audience_id"])
    series = await services.activity.audience_series(account, audience.audience_id)
    users = [s for s in await services.saved.list(account) if audience.audience_id in s.rule.audiences]
    now = time.time_ns() // 1_000_000
    return visit.page(
        "audience.html",
        audience=audience,
        state=state,
        segments=users,
        over_time=line_chart(series.counts, audience.count, now),
        last_hour=bar_chart(series.minutes, now),
        box=f"0 0 {WIDTH} {HEIGHT}",
        right=WIDTH - RIGHT,
        left=LEFT,
        bottom=HEIGHT - 6,
    )


ROUTES: list[tuple[str, str, Page]] = [
    ("GET", "/audiences", listed),
    ("GET", "/audiences/{audience}", show),
]
