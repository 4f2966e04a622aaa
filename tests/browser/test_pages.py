"""Every page over a real API: accessibility, widths, themes, keys, lost connections."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from api.domain.events import EventType
from api.domain.scopes import SCOPES
from api.store import events
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import User
from tests.browser.conftest import OpenPage, go
from tests.browser.history import History, failed_node, make_history
from tests.browser.proxy import Proxy

pytestmark = pytest.mark.timeout(900)
PAGES = {
    "overview": "/",
    "clusters": "/clusters",
    "cluster": "/clusters/{cluster}",
    "trainings": "/trainings",
    "training": "/trainings/{training}",
    "ended training": "/trainings/{earlier}",
    "compare": "/compare?ids={training},{earlier}",
    "searches": "/searches",
    "search": "/searches/{search}",
    "models": "/models",
    "model": "/models/{model}",
    "sandboxes": "/sandboxes",
    "sandbox": "/sandboxes/{node}",
    "admin": "/admin",
}
WIDTHS = (360, 768, 1280, 1920)
_DRAW_AGAIN = """async () => {
  document.dispatchEvent(new Event("visibilitychange"));
  for (let frame = 0; frame < 4; frame += 1) await new Promise((resolve) => requestAnimationFrame(resolve));
}"""
AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> User:
    return make_user(project="acme", scopes=SCOPES)


@pytest.fixture(scope="module")
def history(user: User) -> History:
    made = make_history(user)
    failed_node(user, made.cluster)
    return made


@pytest.fixture
def signed_in(url: str, user: User, history: History, open_page: OpenPage) -> OpenPage:
    """Return a function that opens the dashboard with the user's key."""

    def make(**options: Any) -> Any:
        return open_page(f"{url}/dashboard/#key={user.secret}", **options)

    return make


def paths(history: History) -> list[str]:
    return [path.format(**vars_of(history)) for path in PAGES.values()]


def vars_of(history: History) -> dict[str, str]:
    return {name: getattr(history, name) for name in history.__dataclass_fields__}


@pytest.mark.parametrize(("width", "theme"), [(360, "dark"), (1280, "light")])
def test_axe_finds_nothing(signed_in: OpenPage, history: History, width: int, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = signed_in(width=width, theme=theme)
    for path in paths(history):
        go(page, path)
        answer = axe.run(page, options={"runOnly": {"type": "tag", "values": AA}}).response
        assert len(answer["passes"]) > 10, "axe did look at the page"
        found = answer["violations"]
        told = [(one["id"], node["html"][:200], node["failureSummary"][:300]) for one in found for node in one["nodes"]]
        assert told == [], path


def test_no_page_scrolls_sideways(signed_in: OpenPage, history: History) -> None:
    page = signed_in()
    for path in paths(history):
        go(page, path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)


def test_axe_finds_nothing_in_a_dialog_with_all_options(signed_in: OpenPage, history: History) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = signed_in()
    go(page, f"/clusters/{history.cluster}")
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_selector("dialog details.group")
    page.evaluate("for (const one of document.querySelectorAll('dialog details')) one.open = true")
    found = axe.run(page, context="dialog", options={"runOnly": {"type": "tag", "values": AA}}).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
    asked = page.evaluate("[...document.querySelectorAll('dialog [id^=field-]')].map(one => one.id.slice(6))")
    schema = page.evaluate("fetch('../openapi.json').then(answer => answer.json())")["components"]["schemas"]
    assert set(schema["TrainingCreate"]["properties"]) <= {name.removesuffix("-used") for name in asked}


def test_charts_and_the_graph_stay_when_the_page_is_drawn_again(signed_in: OpenPage, history: History) -> None:
    page = signed_in()
    for path, drawing in (
        (f"/trainings/{history.training}", "fn-lines path.line"),
        (f"/clusters/{history.cluster}", "fn-graph circle"),
    ):
        go(page, path)
        page.wait_for_selector(drawing)
        count = page.locator(drawing).count()
        page.evaluate(_DRAW_AGAIN)
        assert page.locator(drawing).count() == count, path


def test_the_arrow_keys_tell_the_figures_of_a_chart(signed_in: OpenPage, history: History) -> None:
    page = signed_in()
    go(page, f"/trainings/{history.earlier}")
    chart = page.locator("fn-lines").first
    chart.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    chart.get_by_text("epoch 1", exact=True).wait_for()
    page.keyboard.press("ArrowRight")
    chart.get_by_text("epoch 2", exact=True).wait_for()


def test_the_keyboard_alone_suffices(signed_in: OpenPage, history: History) -> None:
    page = signed_in()
    go(page, "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Clusters":
            break
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Clusters", exact=True).wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Create a cluster":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog input#field-name")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("document.activeElement.textContent") == "Create a cluster"


def test_signing_out_forgets_the_key_and_the_address_never_keeps_it(signed_in: OpenPage, user: User) -> None:
    page = signed_in()
    assert user.secret not in page.url
    assert page.evaluate("sessionStorage.length") == 1
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    assert page.evaluate("[sessionStorage.length, document.cookie]") == [0, ""]
    assert user.secret not in page.content()


def test_a_wrong_key_is_refused_in_the_apis_words(url: str, open_page: OpenPage) -> None:
    page = open_page(f"{url}/dashboard/")
    page.get_by_label("API key").fill("fnx_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    assert "The API key is unknown, expired or revoked." in page.get_by_role("alert").inner_text()


def test_a_key_without_a_scope_sees_the_apis_words(url: str, make_user: MakeUser, open_page: OpenPage) -> None:
    user = make_user(scopes=frozenset({"data:write"}))
    page = open_page(f"{url}/dashboard/#key={user.secret}")
    for path, scope in (("/clusters", "clusters:read"), ("/models", "models:read")):
        go(page, path)
        assert f"The API key lacks the scope {scope}." in page.get_by_role("alert").inner_text()


def test_an_action_that_is_refused_says_why(url: str, make_user: MakeUser, open_page: OpenPage) -> None:
    user = make_user(scopes=frozenset({"clusters:read"}))
    page = open_page(f"{url}/dashboard/#key={user.secret}")
    go(page, "/clusters")
    page.get_by_role("button", name="Create a cluster").first.click()
    page.get_by_label("Name").fill("mine")
    page.locator("dialog footer button.primary").click()
    assert "The API key lacks the scope clusters:write." in page.locator("dialog").get_by_role("alert").inner_text()


def test_after_a_lost_connection_events_go_on_without_a_gap(
    url: str, user: User, history: History, open_page: OpenPage
) -> None:
    proxy = Proxy(urlsplit(url).port or 0)
    page = open_page(f"{proxy.url}/dashboard/#key={user.secret}")
    go(page, f"/trainings/{history.training}")
    page.locator(".events li").first.wait_for()
    before = page.locator(".events li").count()
    proxy.cut()
    page.get_by_text("The server cannot be reached.").wait_for()
    _tell(user, history, "while it was away")
    proxy.up = True
    page.get_by_text("while it was away").wait_for()
    page.get_by_text("The server cannot be reached.").wait_for(state="detached")
    _tell(user, history, "when it was back")
    page.get_by_text("when it was back").wait_for()
    assert page.locator(".events li").count() == before + 2
    proxy.close()


def _tell(user: User, history: History, text: str) -> None:
    with user.rows.unit_of_work() as uow:
        data = {"training_id": history.training, "message": text, "suggestion": ""}
        events.emit(uow.session, history.cluster, EventType.TRAINING_RED_FLAG, data, training_id=history.training)
