"""Fixtures of the console's tests: the application in this process, a running system, and a real browser."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.console.person import Person
from tests.pipeline.conftest import servers, stack
from tests.pipeline.running import Stack
from tests.segment_api.conftest import api

__all__ = ["api", "browser", "person", "servers", "stack"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium that is installed. One for each file: Playwright keeps an event loop running, which would be in the
    way of the tests that run their own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed: `apt-get install chromium`, then these tests run")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def person(browser: Browser, stack: Stack) -> Iterator[Person]:
    """Somebody with a browser of their own, signed in. What the browser complained about fails the test."""
    somebody = Person(browser, stack)
    somebody.sign_in()
    yield somebody
    somebody.leave()
