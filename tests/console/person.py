"""A person at a real browser, who speaks in the words of the pages."""

from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

from tests.pipeline.running import Stack

PATIENT_MS = 15_000
"""Long enough for a busy machine: what has to be quick is measured elsewhere."""


class Person:
    """One browser with its own cookies. Errors of the page, and what its policy blocked, are complaints."""

    def __init__(self, browser: Browser, stack: Stack, **options: Any) -> None:
        self.stack = stack
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=stack.ready["api_url"])
        self.context.set_default_timeout(PATIENT_MS)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    @property
    def account_url(self) -> str:
        """Where the pages of the demo account are."""
        return f"{self.stack.ready['console_url']}/accounts/{self.stack.ready['account']}"

    def sign_in(self) -> None:
        self.page.goto(self.stack.ready["console_url"])
        self.page.get_by_label("Admin token").fill(self.stack.ready["admin_token"])
        self.press("Sign in")
        self.page.get_by_role("link", name="Segments").wait_for()

    def open(self, path: str) -> None:
        """Open a page of the demo account."""
        self.page.goto(self.account_url + path)

    def press(self, name: str, *, within: Locator | None = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def sees(self, text: str, *, exact: bool = False, within_ms: float = PATIENT_MS) -> None:
        self.page.get_by_text(text, exact=exact).first.wait_for(timeout=within_ms)

    def region(self, name: str) -> Locator:
        return self.page.get_by_role("region", name=name, exact=True)

    def is_wider_than_the_window(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def leave(self) -> None:
        """Close the browser; fail if it complained."""
        self.context.close()
        assert self.complaints == []


Scheme = Literal["light", "dark"]
