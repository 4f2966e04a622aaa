"""The dashboard's files: who is sent there, their headers, and what the first view loads."""

import re
from pathlib import Path

import httpx
import pytest

from api.main import create_app
from api.routes.dashboard import static_files
from api.settings import Settings
from tests.api.routes.conftest import make_settings, serving

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FOLDER = Path(__file__).parents[3] / "api/dashboard"
FIRST_VIEW_BYTES = 150_000


def test_a_browser_at_the_root_is_sent_to_the_dashboard(url: str) -> None:
    answer = httpx.get(url, headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "dashboard/")
    followed = httpx.get(url, headers=BROWSER, follow_redirects=True)
    assert followed.status_code == 200
    assert followed.headers["content-type"] == "text/html; charset=utf-8"


def test_another_client_at_the_root_gets_a_problem(url: str) -> None:
    answer = httpx.get(url)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_page_without_its_slash_is_sent_to_the_folder(url: str) -> None:
    assert httpx.get(f"{url}/dashboard").headers["location"] == "dashboard/"


@pytest.mark.parametrize("path", ["", "app.js", "style.css", "icon.svg", "lib/dom.js"])
def test_a_file_has_a_strict_policy_and_an_etag(url: str, path: str) -> None:
    answer = httpx.get(f"{url}/dashboard/{path}")
    assert answer.status_code == 200
    directives = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["style-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = httpx.get(f"{url}/dashboard/{path}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.head(f"{url}/dashboard/{path}").headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("path", ["nothing.js", "../main.py", "%2e%2e/main.py", "lib/", "lib/../../main.py"])
def test_nothing_else_is_served(url: str, path: str) -> None:
    assert httpx.get(f"{url}/dashboard/{path}").status_code == 404


def test_every_file_of_the_folder_is_served() -> None:
    on_disk = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert static_files().keys() == on_disk


def test_no_file_names_another_host_or_runs_text_as_code() -> None:
    for path, file in static_files().items():
        text = file.content.decode()
        addresses = set(re.findall(r"https?://[^/\s\"'`]+", text)) - {"http://www.w3.org"}
        assert not addresses, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path


def test_the_first_view_loads_less_than_150_kb() -> None:
    """It loads the page, the styles, and the modules that the shell and the overview import."""
    files = static_files()
    loaded = {"index.html", "style.css", "icon.svg", "theme.js"}
    waiting = ["app.js", "pages/overview.js"]
    while waiting:
        name = waiting.pop()
        loaded.add(name)
        for relative in re.findall(r'^import .*from "(.*)";$', files[name].content.decode(), re.MULTILINE):
            imported = (FOLDER / name).parent.joinpath(relative).resolve().relative_to(FOLDER).as_posix()
            if imported not in loaded:
                waiting.append(imported)
    size = sum(len(files[name].content) for name in loaded)
    assert 20_000 < size < FIRST_VIEW_BYTES


def test_a_deployment_can_switch_it_off(postgres_url: str, tmp_path: Path) -> None:
    settings: Settings = make_settings(postgres_url, tmp_path, dashboard=False)
    with serving(create_app(settings)) as base:
        assert httpx.get(f"{base}/dashboard/").status_code == 404
        assert httpx.get(base, headers=BROWSER).status_code == 404
