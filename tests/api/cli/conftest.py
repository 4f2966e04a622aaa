from collections.abc import Iterator
from pathlib import Path

import pytest

from api.main import create_app
from api.settings import Settings
from tests.api.cli.fake_api import KEY, FakeApi, serve_fake_api
from tests.api.routes.conftest import make_settings, serving


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder with an empty home, without the settings of the caller."""
    for name in ("FLOW_NEXUS_URL", "FLOW_NEXUS_API_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def api(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """Serve the fake API. The environment has its URL and a key."""
    with serve_fake_api() as api:
        monkeypatch.setenv("FLOW_NEXUS_URL", api.url)
        monkeypatch.setenv("FLOW_NEXUS_API_KEY", KEY)
        yield api


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    """The address of a real API on a database of the test's own."""
    with serving(create_app(settings)) as base:
        yield base
