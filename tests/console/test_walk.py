"""The way of an integrator and of a marketer, in a real browser on a running system."""

import os
import signal
import time
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page

from tests.console.person import Person
from tests.pipeline.running import Stack, eventually


def test_from_signing_in_to_a_segment_that_a_visitor_matches(person: Person) -> None:
    page, stack = person.page, person.stack
    person.follow("Pull")
    person.fill("Search", "mparticle")
    person.press("Setup connector")
    person.fill("Name", "Walk")
    person.press("Save and create connector")
    person.sees("What to do in mParticle")
    assert page.locator("h1").inner_text() == "Walk"

    person.follow("API key")
    person.press("Generate an API Key")
    secret = page.locator("#secret").inner_text()
    page.keyboard.press("Escape")
    page.mouse.click(5, 5)
    assert page.locator("#secret").inner_text() == secret
    person.press("Copy")
    person.sees("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    person.follow("I have copied it")
    assert secret not in page.content()

    person.follow("Audiences")
    person.fill("Search", "walked")
    person.sees("No audience matches")
    assert stack.subscribe(7001, key=secret, audience_name="Walked first").status_code == 200
    assert stack.change("walk-1", 7001, "add", key=secret).status_code == 200
    row = page.get_by_role("row").filter(has_text="Walked first")
    row.wait_for()  # without a reload
    assert row.get_by_role("cell").nth(3).inner_text() == "1"

    person.follow("Segments")
    person.press("New segment")
    person.fill("Name", "Walked")
    page.locator("html.scripted").wait_for()  # dragging takes the script
    page.locator("#palette").get_by_text("Walked first").drag_to(person.region("Rule"))
    person.region("Rule").get_by_text("Walked first", exact=True).wait_for()
    page.locator("#size", has_text="1").wait_for()
    person.fill("MPID", "walk-1")
    person.press("Test")
    person.sees("matches")
    person.press("Save segment")
    person.sees("was saved")
    saved = stack.api("GET", f"/v1/accounts/{stack.ready['account']}/segments").json()["segments"]
    (mine,) = [segment for segment in saved if segment["name"] == "Walked"]
    assert mine["size"] == 1
    path = f"/v1/accounts/{stack.ready['account']}/segments/{mine['id']}/visitors/"
    assert stack.api("GET", path + "walk-1").json()["matches"] is True
    assert stack.api("GET", path + "walk-2").json()["matches"] is False


def _tab_to(page: Page, name: str) -> None:
    """Press Tab until the control with this name has the focus."""
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
        )
        if focused == name:
            return
    raise AssertionError(f"Tab never reaches {name}")


def test_the_builder_works_by_keyboard_alone_and_says_what_happened(person: Person) -> None:
    page, stack = person.page, person.stack
    for audience_id, name in ((7101, "Keys first"), (7102, "Keys second")):
        stack.subscribe(audience_id, audience_name=name)
        stack.change("keys-1", audience_id, "add")
    eventually(lambda: stack.listing().get(7102), 10, 1)
    person.open("/segments/new?q=Keys")
    rule, said = person.region("Rule"), page.locator("#said")
    _tab_to(page, "Add Keys first to the rule")
    page.keyboard.press("Enter")
    said.get_by_text("Added “Keys first” to the rule.").wait_for()
    assert page.evaluate("document.activeElement.id") == "add-7101"  # the focus stays where it was
    _tab_to(page, "Add Keys second to the rule")
    page.keyboard.press("Space")
    said.get_by_text("Added “Keys second” to the rule.").wait_for()
    _tab_to(page, "OR")
    page.keyboard.press("Enter")
    said.get_by_text("OR: in at least one of these.").wait_for()
    person.sees("Visitors in “Keys first” or in “Keys second”.")
    _tab_to(page, "Remove Keys first from the rule")
    page.keyboard.press("Enter")
    said.get_by_text("Removed “Keys first” from the rule.").wait_for()
    assert page.evaluate("document.activeElement.closest('#rule-region') !== null")
    rule.get_by_text("Keys first", exact=True).wait_for(state="detached")
    assert said.get_attribute("role") == "status"
    page.reload()  # the draft is in the address
    rule.get_by_text("Keys second", exact=True).wait_for()


def test_groups_are_nested_moved_and_negated(person: Person) -> None:
    page, stack = person.page, person.stack
    for audience_id, name in ((7201, "Nest in"), (7202, "Nest out")):
        stack.subscribe(audience_id, audience_name=name)
        stack.change("nest-1", audience_id, "add")
    stack.change("nest-2", 7201, "add")
    eventually(lambda: stack.listing().get(7201), 10, 2)
    eventually(lambda: stack.listing().get(7202), 10, 1)
    person.open("/segments/new?q=Nest")
    rule = person.region("Rule")
    person.press("Add Nest in to the rule")
    person.press("Add a group", within=rule)
    person.press("Adding here", within=rule)
    person.press("Add Nest out to the rule")
    inner = rule.locator(".rule-group .rule-group")
    inner.get_by_text("Nest out", exact=True).wait_for()
    person.press("NOT", within=inner)
    person.sees("Visitors in “Nest in” and not in “Nest out”.")
    page.locator("#size", has_text="1").wait_for()
    # an item is dragged out of a group into another
    inner.get_by_text("Nest out", exact=True).drag_to(rule.locator(".drop").last)
    person.sees("Visitors in “Nest in” and in an empty group and in “Nest out”.")
    person.press("Remove this group", within=rule)
    person.sees("Visitors in “Nest in” and in “Nest out”.")


def test_an_audience_becomes_pickable_when_its_first_visitor_enters_without_a_reload(person: Person) -> None:
    page, stack = person.page, person.stack
    stack.subscribe(7301, audience_name="Appears later")
    person.open("/segments/new?q=Appears")
    person.sees("No populated audience matches")
    page.evaluate("window.notReloaded = true")
    stack.change("late-1", 7301, "add")
    page.get_by_role("button", name="Add Appears later to the rule").wait_for()
    assert page.evaluate("window.notReloaded") is True
    stack.change("late-1", 7301, "delete")
    page.get_by_role("button", name="Add Appears later to the rule").wait_for(state="detached")


def test_two_browsers_see_the_same_change_at_once_and_share_no_session(
    browser: Browser, stack: Stack, person: Person
) -> None:
    other = Person(browser, stack)
    other.sign_in()
    for one in (person, other):
        one.open("/audiences?q=Both+see")
        one.sees("No audience matches")
    stack.subscribe(7401, audience_name="Both see this")
    stack.change("both-1", 7401, "add")
    for one in (person, other):
        one.page.get_by_role("row").filter(has_text="Both see this").wait_for()
    other.press("Sign out")
    other.page.get_by_label("Admin token").wait_for()
    person.page.reload()
    person.sees("Both see this")
    other.leave()


def test_the_connector_page_is_live_and_sends_a_test_message(person: Person) -> None:
    page, stack = person.page, person.stack
    person.open(f"/integrations/connectors/{stack.ready['connector_id']}")
    page.locator(".live-state", has_text="Live").wait_for()
    stack.change("live-1", 7501, "add")
    person.sees("Last message received")
    page.locator("#requests").get_by_text("Enters and exits").first.wait_for()
    person.fill("API key to test", stack.ready["api_key"])
    person.press("Send a test message")
    person.sees("The test message was accepted")
    person.fill("API key to test", "no-such-key-at-all")
    person.press("Send a test message")
    person.sees("does not know this API key")
    page.locator("#requests").get_by_text("Accepted").first.wait_for()


def test_a_dead_letter_is_shown_with_its_reason_and_replayed_on_a_press(person: Person) -> None:
    page, stack = person.page, person.stack
    malformed = {"mpid": "dead-1", "audiences": [{"audience_id": "no number", "action": "add"}]}
    stack.message("audience_membership_change_request", user_profiles=[malformed])
    person.open(f"/integrations/connectors/{stack.ready['connector_id']}")
    reason = page.locator("#pulse li").filter(has_text="audience_malformed")
    reason.get_by_role("button", name="Replay").click()
    page.get_by_text("0 dead letters were replayed; 1 are still refused.").wait_for(timeout=30_000)


def test_a_visitor_is_erased_and_the_page_shows_the_receipt(person: Person) -> None:
    page, stack = person.page, person.stack
    stack.subscribe(7551, audience_name="Erased from")
    stack.change("erase-1", 7551, "add")
    eventually(lambda: stack.segments("erase-1"), 10, {"7551": "member"})
    person.follow("Visitor")
    person.fill("MPID", "erase-1")
    person.press("Look up")
    page.get_by_role("row").filter(has_text="Erased from").get_by_text("Member").wait_for()
    person.press("Erase this visitor…")
    person.press("Erase this visitor")
    person.sees("Erased: 1 membership")  # without a reload
    person.sees("Nothing is known of this visitor")
    assert stack.segments("erase-1") == {}


def test_hostile_names_are_shown_as_they_are(person: Person) -> None:
    page, stack = person.page, person.stack
    names = {
        7601: "<img src=x onerror='window.pwned = true'>",
        7602: "\u202egnorw\u202c \u2067\u05e2\u05d1\u05e8\u2069",
        7603: "🦄" * 255,
        7604: "{{ 7 * 7 }} </script><script>alert(1)</script>",
    }
    for audience_id, name in names.items():
        stack.subscribe(audience_id, audience_name=name, audience_description=name)
        stack.change("hostile-1", audience_id, "add")
    eventually(lambda: set(names) <= set(stack.listing()), 10)
    for audience_id, name in names.items():
        person.open(f"/segments/new?q={audience_id}")
        rule = person.region("Rule")
        page.locator(f"#add-{audience_id}").click()
        rule.get_by_text(name, exact=True).wait_for()
        page.get_by_label("Name", exact=True).fill(name[:255])
        person.press("Save segment")
        person.sees("was saved")
        assert page.locator("h1").inner_text() == name[:255]
        for path in (
            f"/audiences?q={audience_id}",
            f"/audiences/{audience_id}",
            "/segments",
            "/visitors?mpid=hostile-1",
        ):
            person.open(path)
            page.get_by_text(name, exact=True).first.wait_for()
            assert page.evaluate("window.pwned") is None
            assert not person.is_wider_than_the_window()
    person.open(f"/visitors?mpid={quote(names[7601])}")
    person.sees("Nothing is known of this visitor")


def test_a_stopped_service_ends_at_once_and_open_pages_find_the_next_one_by_themselves(person: Person) -> None:
    page, stack = person.page, person.stack
    stack.subscribe(7801, audience_name="After the stop")
    person.open("/audiences?q=After+the+stop")
    person.sees("No audience matches")
    page.evaluate("window.notReloaded = true")
    pid = stack.service_pid("api")
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 4)
    assert time.monotonic() - began < 4  # an open stream does not keep it
    stack.change("stop-1", 7801, "add")
    page.get_by_role("row").filter(has_text="After the stop").wait_for(timeout=15_000)
    assert page.evaluate("window.notReloaded") is True
    person.complaints = [text for text in person.complaints if "ERR_" not in text]  # while nobody listened


def test_an_ended_session_leads_an_open_page_to_the_form(person: Person) -> None:
    page = person.page
    person.open("/segments/new")
    second = person.context.new_page()
    second.goto(person.account_url + "/audiences")
    second.get_by_role("button", name="Sign out").click()
    second.get_by_label("Admin token").wait_for()
    page.get_by_role("region", name="Rule").get_by_role("button", name="OR", exact=True).click()
    page.get_by_label("Admin token").wait_for()
    person.complaints = [text for text in person.complaints if "401" not in text]
