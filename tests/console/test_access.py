"""Every page for everybody: axe, light and dark, a phone, no script."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.console.person import Person, Scheme
from tests.pipeline.running import Stack, eventually

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def filled(stack: Stack) -> list[str]:
    """Paths of every page, with something to show on each."""
    for n in range(4):
        stack.subscribe(7700 + n, audience_name=f"Seen {n}", audience_description="For every eye")
        stack.change(f"seen-{n}", 7700 + n, "add")
        stack.change("seen-all", 7700 + n, "add")
    stack.change("seen-all", 7703, "delete")
    stack.subscribe(7799, audience_name="Seen by nobody")
    stack.message("audience_membership_change_request", user_profiles=[{"audiences": []}])
    eventually(lambda: stack.listing().get(7703), 10, 1)
    rule = {"op": "and", "items": [{"audience_id": 7700}, {"op": "not", "items": [{"audience_id": 7701}]}]}
    account = stack.ready["account"]
    answer = stack.api("POST", f"/v1/accounts/{account}/segments", json={"name": "Seen segment", "rule": rule})
    segment = answer.json()["id"]
    key = stack.api("GET", f"/v1/accounts/{account}/api-keys").json()["api_keys"][0]["id"]
    connector = stack.ready["connector_id"]
    return [
        "/integrations/pull",
        "/integrations/pull?q=nothing",
        "/integrations/pull/mparticle/new",
        f"/integrations/connectors/{connector}",
        f"/integrations/connectors/{connector}/delete",
        "/integrations/api-keys",
        f"/integrations/api-keys/{key}/revoke",
        "/audiences",
        "/audiences?empty=1",
        "/audiences?q=nothing",
        "/audiences/7700",
        "/visitors",
        "/visitors?mpid=seen-all",
        "/visitors?mpid=nobody",
        "/visitors/erase?mpid=seen-all",
        "/segments",
        "/segments/new",
        f"/segments/{segment}?mpid=seen-0",
        f"/segments/{segment}/delete",
        "/nothing",
    ]


def _serious(person: Person) -> list[str]:
    found = Axe().run(person.page).response["violations"]
    return [
        f"{person.page.url}: {problem['id']} {problem['nodes'][0]['html'][:200]}"
        for problem in found
        if problem["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize(("scheme", "size"), [("light", "desktop"), ("dark", "phone")])
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(
    browser: Browser, stack: Stack, filled: list[str], scheme: Scheme, size: str
) -> None:
    options = {"color_scheme": scheme} | ({"viewport": PHONE} if size == "phone" else {})
    person = Person(browser, stack, **options)
    person.page.goto(f"{stack.ready['console_url']}/sign-in?alert=wrong")
    problems = _serious(person)
    _sign_in_on_any_size(person)
    for path in [*filled, "!new-key", "!accounts"]:
        if path == "!new-key":
            person.open("/integrations/api-keys")
            person.press("Generate an API Key")
        elif path == "!accounts":
            person.page.goto(f"{stack.ready['console_url']}/accounts")
        else:
            person.open(path)
        problems += _serious(person)
        if person.is_wider_than_the_window():
            problems.append(f"{path} scrolls sideways")
    assert problems == []
    person.complaints = [text for text in person.complaints if "404" not in text]  # the page that is not there
    person.leave()


def _sign_in_on_any_size(person: Person) -> None:
    person.page.goto(person.stack.ready["console_url"])
    person.page.get_by_label("Admin token").fill(person.stack.ready["admin_token"])
    person.press("Sign in")
    person.page.locator("h1", has_text="Pull").wait_for()


def test_on_a_phone_the_menu_is_behind_a_button(browser: Browser, stack: Stack) -> None:
    person = Person(browser, stack, viewport=PHONE)
    _sign_in_on_any_size(person)
    link = person.page.get_by_role("link", name="Segments", exact=True)
    assert not link.is_visible()
    person.press("Menu")
    link.wait_for()
    assert not person.is_wider_than_the_window()
    person.page.keyboard.press("Escape")
    link.wait_for(state="hidden")
    person.press("Menu")
    link.click()
    person.page.locator("h1", has_text="Segments").wait_for()
    person.leave()


@pytest.mark.usefixtures("filled")
def test_without_javascript_a_segment_is_built_and_saved(browser: Browser, stack: Stack) -> None:
    person = Person(browser, stack, java_script_enabled=False)
    _sign_in_on_any_size(person)
    person.open("/segments/new?q=Seen")
    person.press("Add Seen 0 to the rule")
    person.press("Add Seen 1 to the rule")
    person.press("OR")
    person.sees("Visitors in “Seen 0” or in “Seen 1”.")
    person.fill("Name", "Without a script")
    person.press("Save segment")
    person.sees("was saved")
    person.leave()


def test_what_moves_rests_for_those_who_ask(browser: Browser, stack: Stack) -> None:
    person = Person(browser, stack, reduced_motion="reduce")
    _sign_in_on_any_size(person)
    moving = "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    assert person.page.evaluate(moving) == 0
    person.leave()
