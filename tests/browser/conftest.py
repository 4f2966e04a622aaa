"""A real browser: Debian's chromium, driven by Playwright.

Where either is missing, the tests skip and say so. With FLOW_NEXUS_BROWSER=required they fail.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from api.settings import Settings
from tests.api.routes import conftest as api_fixtures
from tests.api.routes.conftest import make_settings
from tests.workers.sandboxes.hosting import API_KEY, Host

url = api_fixtures.url
rows = api_fixtures.rows
make_user = api_fixtures.make_user

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# A loaded machine is slow, and nothing here is timed.
PATIENCE_MS = 180_000

OpenPage = Callable[..., Any]


def _missing(what: str) -> NoReturn:
    if os.environ.get("FLOW_NEXUS_BROWSER") == "required":
        pytest.fail(f"FLOW_NEXUS_BROWSER=required, and {what}")
    pytest.skip(f"no test in a browser: {what}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a browser. Until it ends, an event loop of Playwright runs in this thread.

    So it does not live longer than a module: other tests run loops of their own.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed (pip install playwright)")
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        _missing("there is no chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Return a function that opens an address in a new window, and fails if its scripts failed."""
    faults: list[str] = []
    contexts: list[Any] = []

    def make(address: str, *, width: int = 1280, theme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: _note(message, faults))
        page.goto(address)
        page.wait_for_selector("h1")
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def _note(message: Any, faults: list[str]) -> None:
    """Keep errors of scripts and breaches of the policy.

    A refused request is no fault of the page.
    """
    if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
        faults.append(message.text)


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The provider answers, but knows none of the sandboxes in the rows of these tests."""
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), max_streams=50, **addresses)


def go(page: Any, path: str) -> None:
    """Open another page of the dashboard, as a link does, and wait for its content."""
    page.evaluate("path => { location.hash = path; }", path)
    page.wait_for_selector(f'main[data-path="{path.partition("?")[0]}"]:not(:has(.loading)) h1')


def picture(page: Any, name: str, *, theme: str = "light", whole: bool = False) -> None:
    """Save a picture of the page below the folder SCREENSHOTS, if there is one."""
    if "SCREENSHOTS" not in os.environ:
        return
    folder = Path(os.environ["SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    page.emulate_media(color_scheme=theme)
    page.wait_for_timeout(500)
    page.screenshot(path=folder / f"{name}-{page.viewport_size['width']}-{theme}.png", full_page=whole)


def save(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
