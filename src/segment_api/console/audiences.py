"""Audiences of an account, with live counts."""

import time

from starlette.responses import Response

from audience_core.errors import NotFound
from segment_api.accounts import Populated
from segment_api.console.charts import HEIGHT, LEFT, RIGHT, WIDTH, bar_chart, line_chart
from segment_api.console.pages import paged
from segment_api.console.visit import Page, Visit

SORTS = {"count": "Most visitors", "name": "Name", "updated": "Last change"}


async def listed(visit: Visit) -> Response:
    """The listing: search, order, page."""
    query, services, account = visit.query, visit.services, visit.account_id
    q, empty = query.get("q", "").strip(), query.get("empty") == "1"
    sort = query["sort"] if query.get("sort") in SORTS else "count"
    audiences = await services.accounts.populated(account)
    if sort == "updated":
        found = await services.listing.read(account, populated=not empty)
        ids = [a.audience_id for a in sorted(found, key=lambda a: a.updated_at, reverse=True)]
    else:
        ids = in_order(audiences, sort, empty=empty)
    # as the HTTP API searches: a part of the name, or exactly the id
    names = {a: state["name"].casefold() for a, state in audiences.catalog.items()}
    matching = [a for a in ids if q.casefold() in names.get(a, "") or q == str(a)]
    shown, page, pages = paged(matching, query.get("page", ""))
    return visit.page(
        "audiences.html",
        q=q,
        sort=sort,
        sorts=SORTS,
        empty=empty,
        audiences=await services.listing.some(account, shown),
        matching=len(matching),
        populated=len(audiences.counts),
        hidden=len(audiences.catalog) - len(audiences.counts),
        page=page,
        pages=pages,
    )


def in_order(audiences: Populated, sort: str, *, empty: bool) -> list[int]:
    """Ids by count, the fullest first, or by name; with the empty ones if asked."""
    ids, counts, catalog = audiences.catalog if empty else audiences.counts, audiences.counts, audiences.catalog
    if sort == "name":
        return sorted(ids, key=lambda a: (catalog[a]["name"].casefold(), a))
    return sorted(ids, key=lambda a: (-counts.get(a, 0), a))


async def show(visit: Visit) -> Response:
    """One audience: what mParticle said of it, and how it has changed."""
    account, services = visit.account_id, visit.services
    catalog = (await services.accounts.populated(account)).catalog
    state = next((state for a, state in catalog.items() if str(a) == visit.part("audience")), None)
    if state is None:
        raise NotFound("there is no such audience")
    (audience,) = await services.listing.some(account, [state["audience_id"]])
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
