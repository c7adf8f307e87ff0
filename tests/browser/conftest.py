"""The app as its users start it, with the released models, and a Chromium for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from find_chromium import OPTIONS, chromium
from playwright.sync_api import Browser, Page, sync_playwright
from serving import serve, visit


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> Iterator[str]:
    yield from serve(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="session")
def start_app() -> Callable[[Path], Iterator[str]]:
    """`serve`, for tests that need an app of their own."""
    return serve


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The app's page in English, in a window of its own."""
    opened = visit(browser, address)
    yield opened
    opened.context.close()
