"""Segments: the saved ones, and the builder."""

from starlette.responses import HTMLResponse, Response

from audience_core.domain.partitioning import is_mpid
from audience_core.errors import LimitReached
from segment_api.console.drafts import Draft, names_of, pickable, read_draft, rule_view
from segment_api.console.pages import paged, render
from segment_api.console.rule_edits import EditRefused, edited, last_group
from segment_api.console.visit import Page, Visit
from segment_api.console.visitors import NO_MPID
from segment_api.errors import InvalidField
from segment_api.rules import describe
from segment_api.segment_routes import ListedSegment

PATH = "/segments"


async def listed(visit: Visit) -> Response:
    """Saved segments with their sizes."""
    q = visit.query.get("q", "").strip()
    found = await visit.services.saved.list(visit.account_id)
    matching = [segment for segment in found if q.casefold() in segment.name.casefold()]
    matching.sort(key=lambda segment: segment.updated_at, reverse=True)
    shown, page, pages = paged(matching, visit.query.get("page", ""))
    sized = await visit.services.segments.listed(visit.account_id, shown)
    return visit.page("segments.html", q=q, segments=sized, total=len(found), page=page, pages=pages)


async def new(visit: Visit) -> Response:
    """The builder with an empty rule."""
    return await _builder(visit, None)


async def show(visit: Visit) -> Response:
    """The builder with a saved segment."""
    return await _builder(visit, await visit.services.segments.get(visit.account_id, visit.part("segment")))


async def _builder(visit: Visit, saved: ListedSegment | None) -> Response:
    draft = read_draft(visit.query, saved)
    services, account = visit.services, visit.account_id
    audiences = await services.accounts.populated(account)
    offered, matching = pickable(audiences, draft.q)
    whole_page = "x-console-part" not in visit.request.headers
    return visit.page(
        "builder.html",
        saved=saved,
        draft=draft,
        path=f"{PATH}/{saved.id if saved else 'new'}",
        offered=offered,
        matching=matching,
        populated=len(audiences.counts),
        empty=len(audiences.catalog) - len(audiences.counts),
        rule=rule_view(draft.rule, audiences),
        sentence=describe(draft.rule, names_of(audiences)),
        # a script asks for the size by itself, so that an edit need not wait for it
        size=await services.sizes.estimate(account, draft.rule) if whole_page else None,
        tested=await _tested(visit, draft),
    )


async def _tested(visit: Visit, draft: Draft) -> dict[str, object] | None:
    if not draft.mpid:
        return None
    if not is_mpid(draft.mpid):
        return {"problem": NO_MPID}
    return {"problem": None, "matches": await visit.services.matcher.matches(visit.account_id, draft.rule, draft.mpid)}


async def size(visit: Visit) -> HTMLResponse:
    """The size of a rule alone, for the script."""
    draft = read_draft(visit.query, None)
    return render("size.html", size=await visit.services.sizes.estimate(visit.account_id, draft.rule))


async def edit(visit: Visit) -> Response:
    """Make one edit of the draft. It changes nothing that is stored: the draft is in the address that follows."""
    segment = visit.part("segment")
    draft = read_draft({"served": "0", **visit.form}, None)
    asked = visit.form.get("do", "")
    audiences = await visit.services.accounts.populated(visit.account_id)
    names = {
        a: name for a, name in names_of(audiences).items() if a in audiences.counts or not asked.startswith("add:")
    }
    rule, target = draft.rule, draft.target
    try:
        if asked.startswith("target:"):
            target = last_group(rule, asked.partition(":")[2], asked)
            await visit.done("What you add next goes into this group.")
        else:
            rule, said = edited(rule, asked, names)
            target = last_group(rule, target, asked)
            await visit.done(said)
    except EditRefused as refused:
        await visit.failed(str(refused))
    return visit.to(f"{PATH}/{segment}", **{**draft.fields(), "rule": rule.model_dump_json(), "target": target})


async def save(visit: Visit) -> Response:
    """Save the draft, as a new segment or in place of a saved one."""
    segment, services, account = visit.part("segment"), visit.services, visit.account_id
    draft = read_draft({"served": "0", **visit.form}, None)
    try:
        if segment == "new":
            kept = await services.saved.create(account, draft.name, draft.rule, served=draft.served)
        else:
            kept = await services.saved.update(account, segment, draft.name, draft.rule, served=draft.served)
    except (InvalidField, LimitReached) as refused:
        await visit.failed(_in_words(refused))
        return visit.to(f"{PATH}/{segment}", **draft.fields())
    await visit.done(f"The segment “{kept.name}” was saved.")
    return visit.to(f"{PATH}/{kept.id}")


def _in_words(refused: InvalidField | LimitReached) -> str:
    text = str(refused)
    if text.startswith("body.name"):
        return "The segment was not saved: it needs a name of 1 to 255 characters."
    if text.startswith("body.rule"):
        return "The segment was not saved: an audience of its rule is no longer subscribed. Remove it, then save."
    return f"The segment was not saved: {text}."


async def duplicate(visit: Visit) -> Response:
    """Save a copy and open it."""
    try:
        copied = await visit.services.saved.duplicate(visit.account_id, visit.part("segment"))
    except LimitReached as refused:
        await visit.failed(f"No copy was made: {refused}.")
        return visit.to(PATH)
    await visit.done(f"The copy “{copied.name}” was saved. Give it a name of its own.")
    return visit.to(f"{PATH}/{copied.id}")


async def confirm_delete(visit: Visit) -> Response:
    """Ask before a segment is deleted."""
    return visit.page(
        "segment_delete.html", segment=await visit.services.segments.get(visit.account_id, visit.part("segment"))
    )


async def delete(visit: Visit) -> Response:
    """Delete a segment."""
    segment = await visit.services.saved.get(visit.account_id, visit.part("segment"))
    await visit.services.saved.delete(visit.account_id, segment.id)
    await visit.done(f"The segment “{segment.name}” was deleted.")
    return visit.to(PATH)


ROUTES: list[tuple[str, str, Page]] = [
    ("GET", PATH, listed),
    ("GET", PATH + "/new", new),
    ("GET", PATH + "/size", size),
    ("GET", PATH + "/{segment}", show),
    ("POST", PATH + "/{segment}", save),
    ("POST", PATH + "/{segment}/edit", edit),
    ("POST", PATH + "/{segment}/duplicate", duplicate),
    ("GET", PATH + "/{segment}/delete", confirm_delete),
    ("POST", PATH + "/{segment}/delete", delete),
]
