"""Takes the pictures of docs/console.md: every page, on a desktop and on a phone, out of a system with made-up data.

Example: python -m tests.console.screenshots docs/console
"""

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from audience_core.redis import keys
from tests.pipeline.running import Stack, eventually
from tests.pipeline.starting import started

SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 860},
    "phone": {"width": 390, "height": 844},
}
NAMES = [
    "Big spenders",
    "Cart abandoners, last 7 days",
    "Newsletter readers",
    "Returning visitors",
    "VIP",
    "Loyalty: gold",
    "Loyalty: silver",
    "Viewed a product three times",
    "Mobile app users",
    "Churn risk",
    "Sale hunters",
    "Gift card owners",
]
MPID = "-8236454195863925914"


def fill(stack: Stack) -> str:
    """Send what mParticle might have sent; return the id of a saved segment."""
    rng = random.Random(7)
    first = 4711
    for n, name in enumerate(NAMES):
        stack.subscribe(first + n, audience_name=name, audience_description=f"Made-up: {name.lower()}")
    stack.subscribe(first + 90, audience_name="Winter campaign")
    for begin in range(0, 2000, 100):
        profiles = [_profile(f"v{n}", first, rng) for n in range(begin, begin + 100)]
        stack.message("audience_membership_change_request", user_profiles=profiles)
    for n in (0, 3, 4, 5):
        stack.change(MPID, first + n, "add")
    stack.change(MPID, first + 3, "delete")
    stack.message("audience_membership_change_request", user_profiles=[{"audiences": []}, _profile("v1", first, rng)])
    stack.message("audience_membership_change_request")
    eventually(lambda: stack.listing().get(first + 4, 0) > 1, 20)
    _write_history(stack, first, rng)
    exit_rule = {"op": "not", "items": [{"audience_id": first + 9}, {"audience_id": first + 10}]}
    rule = {"op": "and", "items": [{"audience_id": first}, {"audience_id": first + 1}, exit_rule]}
    path = f"/v1/accounts/{stack.ready['account']}/segments"
    served = {"name": "Spenders to win back", "rule": rule, "served": True}
    either = {"op": "or", "items": [{"audience_id": first + 5}, {"audience_id": first + 6}]}
    stack.api("POST", path, json={"name": "Loyal, gold or silver", "rule": either})
    return str(stack.api("POST", path, json=served).json()["id"])


def _profile(mpid: str, first: int, rng: random.Random) -> dict[str, Any]:
    chosen = [n for n in range(len(NAMES)) if rng.random() < 1 / (n + 2)]
    items = [{"audience_id": first + n, "audience_name": NAMES[n], "action": "add"} for n in chosen]
    return {"mpid": mpid, "audiences": items}


def _write_history(stack: Stack, first: int, rng: random.Random) -> None:
    """The days before now: nothing can be sent that is already past."""
    account, minute = stack.ready["account"], time.time_ns() // 60_000_000_000
    with redis.Redis.from_url(stack.ready["redis_url"]) as client:
        count = 640
        samples = []
        for at in range(minute - 4 * 1440, minute - 60, 47):
            count = max(50, count + rng.randint(-14, 20))
            samples.append(f"{at}:{count}")
        client.lpush(keys.history(account, first), *reversed(samples))
        for at in range(minute - 58, minute):
            series = keys.activity_changes(account, first, at // 60)
            client.hset(series, mapping={f"e{at % 60}": rng.randint(200, 900), f"x{at % 60}": rng.randint(50, 500)})


def pages_of(stack: Stack, segment: str) -> dict[str, str]:
    """Name of a picture → path of its page."""
    return {
        "pull": "/integrations/pull",
        "setup": "/integrations/pull/mparticle/new",
        "connector": f"/integrations/connectors/{stack.ready['connector_id']}",
        "api-keys": "/integrations/api-keys",
        "audiences": "/audiences",
        "audience": "/audiences/4711",
        "visitor": f"/visitors?mpid={MPID}",
        "segments": "/segments",
        "builder": f"/segments/{segment}?mpid={MPID}",
    }


def sign_in(browser: Browser, stack: Stack, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(stack.ready["console_url"])
    page.get_by_label("Admin token").fill(stack.ready["admin_token"])
    page.get_by_role("button", name="Sign in").click()
    page.locator("h1", has_text="Pull").wait_for()
    return page


def shoot(browser: Browser, stack: Stack, segment: str, folder: Path) -> None:
    """Every page in both sizes, and one in dark colours."""
    for size, viewport in SIZES.items():
        anybody = browser.new_context(viewport=viewport).new_page()
        anybody.goto(stack.ready["console_url"])
        anybody.screenshot(path=folder / f"sign-in-{size}.png")
        page = sign_in(browser, stack, viewport=viewport)
        base = page.url.removesuffix("/integrations/pull")
        for name, path in pages_of(stack, segment).items():
            page.goto(base + path)
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{name}-{size}.png")
    dark = sign_in(browser, stack, viewport=SIZES["desktop"], color_scheme="dark")
    dark.goto(base + pages_of(stack, segment)["builder"])
    dark.wait_for_timeout(300)
    dark.screenshot(path=folder / "builder-dark.png")


def main() -> int:
    """Take the pictures into the folder named."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.stdout.write(str(__doc__))
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as own, started(Path(own)) as stack, sync_playwright() as playwright:
        segment = fill(stack)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shoot(browser, stack, segment, folder)
        browser.close()
    sys.stdout.write(f"{len(list(folder.glob('*.png')))} pictures in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
