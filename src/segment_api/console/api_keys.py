"""Integrations › API key: generate, rotate and revoke. A secret is shown on one page, once."""

from starlette.responses import Response

from audience_core.errors import NotFound
from audience_core.redis.control import ApiKey
from segment_api.console.visit import Page, Visit

PATH = "/integrations/api-keys"


async def show(visit: Visit) -> Response:
    """Keys of the account, the newest first."""
    keys = await visit.services.store.api_keys(visit.account_id)
    keys.sort(key=lambda key: key["created_at"], reverse=True)
    shown = visit.query.get("shown", "")
    secret = await visit.services.sessions.take_over(visit.session, shown) if shown else None
    return visit.page("api_keys.html", keys=keys, shown=shown, secret=secret)


async def generate(visit: Visit) -> Response:
    """Make a key; the next page shows its secret."""
    made = await visit.services.store.create_key(visit.account_id)
    await visit.services.sessions.hand_over(visit.session, made["id"], made["secret"])
    return visit.to(PATH, shown=made["id"])


async def rotate(visit: Visit) -> Response:
    """Make a key beside an old one, which goes on working for the grace time."""
    old = await _key(visit)
    made = await visit.services.store.rotate_key(visit.account_id, old["id"])
    await visit.services.sessions.hand_over(visit.session, made["id"], made["secret"])
    await visit.done(
        f"A new key was made beside {old['id']}, which works for a while yet: put the new one into mParticle meanwhile."
    )
    return visit.to(PATH, shown=made["id"])


async def confirm_revoke(visit: Visit) -> Response:
    """Ask before a key is revoked."""
    return visit.page("api_key_revoke.html", key=await _key(visit))


async def revoke(visit: Visit) -> Response:
    """Revoke a key for good."""
    key = await _key(visit)
    await visit.services.store.revoke_key(visit.account_id, key["id"])
    await visit.done(f"The key {key['id']} is revoked. Gateways refuse it within seconds.")
    return visit.to(PATH)


async def _key(visit: Visit) -> ApiKey:
    keys = await visit.services.store.api_keys(visit.account_id)
    found = next((key for key in keys if key["id"] == visit.part("key")), None)
    if found is None:
        raise NotFound("there is no such API key")
    return found


ROUTES: list[tuple[str, str, Page]] = [
    ("GET", PATH, show),
    ("POST", PATH, generate),
    ("POST", PATH + "/{key}/rotate", rotate),
    ("GET", PATH + "/{key}/revoke", confirm_revoke),
    ("POST", PATH + "/{key}/revoke", revoke),
]
