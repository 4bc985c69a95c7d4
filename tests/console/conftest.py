"""Fixtures of the console's tests: the application in this process, a running system, and a real browser."""

import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.console.person import Person
from tests.pipeline.conftest import servers
from tests.pipeline.running import Stack
from tests.pipeline.starting import started
from tests.segment_api.conftest import api

__all__ = ["api", "browser", "person", "servers", "stack"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, str]) -> Iterator[Stack]:
    """The whole system. Each request has a connection of its own: between two of them a page may take its time, and the
    gateway closes what is idle."""
    with started(tmp_path_factory.mktemp("console"), **servers) as running:
        running.http = httpx.Client(trust_env=False, timeout=10, limits=httpx.Limits(max_keepalive_connections=0))
        with running.http:
            yield running


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
