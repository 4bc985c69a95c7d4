"""Integrations › Integration Hub › Pull: the catalogue, connectors, and one connector's page."""

import asyncio

from pydantic import ValidationError
from starlette.responses import Response

from audience_core.observability.logging import get_logger
from segment_api.console import activity
from segment_api.console.check import check_key
from segment_api.console.visit import Page, Visit
from segment_api.models import ConnectorRequest

CATALOGUE = {
    "mparticle": (
        "mParticle",
        "Customer data platform. Sends its audiences here in real time, as people enter and leave.",
    )
}
LISTED = 10
REPLAY_S = 20.0
"""So long a person waits for the result; the replay itself goes on."""

_going_on: set["asyncio.Task[tuple[int, int]]"] = set()
log = get_logger()


async def catalogue(visit: Visit) -> Response:
    """Every connector that can be set up, and what is set up already."""
    q = visit.query.get("q", "").strip()
    connectors = await visit.services.store.connectors(visit.account_id)
    cards = [
        {
            "provider": provider,
            "name": name,
            "text": text,
            "connectors": [c for c in connectors if c["provider"] == provider],
        }
        for provider, (name, text) in CATALOGUE.items()
        if q.casefold() in f"{name} {text}".casefold()
    ]
    health = await visit.services.health.of(visit.account_id)
    names = [name for name, _ in CATALOGUE.values()]
    return visit.page("catalogue.html", q=q, cards=cards, names=names, health=health)


async def start(visit: Visit) -> Response:
    """*Integrations* and *Integration Hub* lead to the only tab that there is."""
    return visit.to("/integrations/pull")


async def set_up(visit: Visit) -> Response:
    """The form for a new connector."""
    if visit.part("provider") not in CATALOGUE:
        return visit.to("/integrations/pull")
    name, text = CATALOGUE[visit.part("provider")]
    return visit.page("connector_new.html", provider=visit.part("provider"), name=name, text=text)


async def create(visit: Visit) -> Response:
    """Save and create a connector."""
    provider, name = visit.part("provider"), visit.form.get("name", "").strip()
    try:
        asked = ConnectorRequest.model_validate({"provider": provider, "name": name, "partner": ""})
    except ValidationError:
        await visit.failed("A connector needs a name of 1 to 255 characters.")
        return visit.to(f"/integrations/pull/{provider}/new")
    made = await visit.services.store.create_connector(visit.account_id, asked.provider, asked.name, asked.partner)
    await visit.done(
        f"The connector “{asked.name}” was created. What is left to do is in mParticle; the steps are below."
    )
    return visit.to(f"/integrations/connectors/{made['id']}")


async def show(visit: Visit) -> Response:
    """One connector: its state, and what to do next."""
    account, services = visit.account_id, visit.services
    connector = await services.store.connector(account, visit.part("connector"))
    audiences = await services.accounts.populated(account)
    fullest = sorted(audiences.counts.items(), key=lambda entry: (-entry[1], entry[0]))[:LISTED]
    keys = await services.store.api_keys(account)
    return visit.page(
        "connector.html",
        connector=connector,
        provider=CATALOGUE.get(connector["provider"], (connector["provider"], ""))[0],
        audiences=[{"audience_id": a, "name": audiences.catalog[a]["name"], "count": count} for a, count in fullest],
        populated=len(audiences.counts),
        active_keys=[key for key in keys if key["status"] == "active"],
        can_check=bool(services.gateway_url),
        shown=await activity.shown(services, account),
        explained=activity.explained,
        replayable=activity.DEAD_LETTERS if services.replay else (),
    )


async def check(visit: Visit) -> Response:
    """Send what mParticle sends as a check, with a key that the person pastes, to the gateway."""
    connector = visit.part("connector")
    await visit.services.store.connector(visit.account_id, connector)
    result = await check_key(visit.services.gateway_url, visit.form.get("key", "").strip())
    await (visit.done if result.passed else visit.failed)(result.text)
    return visit.to(f"/integrations/connectors/{connector}")


async def replay(visit: Visit) -> Response:
    """Put the dead letters with a reason back that can be read by now."""
    connector, reason, put_back = visit.part("connector"), visit.form.get("reason", ""), visit.services.replay
    await visit.services.store.connector(visit.account_id, connector)
    if put_back is None or reason not in activity.DEAD_LETTERS:
        await visit.failed("Nothing was replayed: there is no such dead letter.")
        return visit.to(f"/integrations/connectors/{connector}")
    working = asyncio.create_task(asyncio.to_thread(put_back, visit.account_id, reason))
    _going_on.add(working)
    working.add_done_callback(_ended)
    done, _ = await asyncio.wait({working}, timeout=REPLAY_S)
    if done:
        replayed, refused = working.result()
        await visit.done(f"{replayed} dead letters were replayed; {refused} are still refused.")
    else:
        await visit.done("The replay goes on: there are many dead letters. Counts change as it gets to them.")
    return visit.to(f"/integrations/connectors/{connector}")


def _ended(working: "asyncio.Task[tuple[int, int]]") -> None:
    _going_on.discard(working)
    if not working.cancelled() and (error := working.exception()):
        log.warning("replay_failed", error=str(error))


async def confirm_delete(visit: Visit) -> Response:
    """Ask before a connector is deleted."""
    connector = await visit.services.store.connector(visit.account_id, visit.part("connector"))
    return visit.page("connector_delete.html", connector=connector)


async def delete(visit: Visit) -> Response:
    """Delete a connector."""
    connector = await visit.services.store.connector(visit.account_id, visit.part("connector"))
    await visit.services.store.delete_connector(visit.account_id, connector["id"])
    await visit.done(f"The connector “{connector['name']}” was deleted. Keys and audiences are as they were.")
    return visit.to("/integrations/pull")


ROUTES: list[tuple[str, str, Page]] = [
    ("GET", "/integrations", start),
    ("GET", "/integrations/hub", start),
    ("GET", "/integrations/pull", catalogue),
    ("GET", "/integrations/pull/{provider}/new", set_up),
    ("POST", "/integrations/pull/{provider}", create),
    ("GET", "/integrations/connectors/{connector}", show),
    ("POST", "/integrations/connectors/{connector}/check", check),
    ("POST", "/integrations/connectors/{connector}/replay", replay),
    ("GET", "/integrations/connectors/{connector}/delete", confirm_delete),
    ("POST", "/integrations/connectors/{connector}/delete", delete),
]
