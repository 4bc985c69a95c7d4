"""Choosing an account, and making the first one."""

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from audience_core.errors import AlreadyExists
from segment_api.console.visit import BASE, Page, Visit
from segment_api.models import AccountRequest


async def start(visit: Visit) -> Response:
    """Lead to the first account, or to making one."""
    if not visit.accounts:
        return RedirectResponse(f"{BASE}/accounts", 303)
    visit.account = visit.accounts[0]
    return visit.to("/integrations/pull")


async def show(visit: Visit) -> Response:
    """All accounts, and the form for a new one."""
    return visit.page("accounts.html", problem=None, given={})


async def open_account(visit: Visit) -> Response:
    """The switcher posts here: it works without a script too."""
    asked = visit.form.get("account", "")
    visit.account = next((account for account in visit.accounts if account["id"] == asked), None)
    if visit.account is None:
        return RedirectResponse(f"{BASE}/accounts", 303)
    return visit.to("/integrations/pull")


async def create(visit: Visit) -> Response:
    """Make an account."""
    try:
        asked = AccountRequest(id=visit.form.get("id", "").strip(), name=visit.form.get("name", "").strip())
        visit.account = await visit.services.store.create_account(asked.id, asked.name)
    except ValidationError:
        await visit.failed("An account needs an id of 1 to 64 letters, digits, “_” or “-”, and a name.")
        return RedirectResponse(f"{BASE}/accounts", 303)
    except AlreadyExists:
        await visit.failed("There is an account with this id already. Choose another id.")
        return RedirectResponse(f"{BASE}/accounts", 303)
    await visit.done(f"The account “{asked.name}” was created.")
    return visit.to("/integrations/pull")


ROUTES: list[tuple[str, str, Page]] = [
    ("GET", "/accounts", show),
    ("POST", "/accounts", create),
    ("POST", "/accounts/open", open_account),
]
