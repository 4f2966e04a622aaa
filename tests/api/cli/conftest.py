from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.cli.talking import KEY, Api, talking


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, an empty home, and nothing of the caller's settings."""
    for name in ("FLOW_NEXUS_URL", "FLOW_NEXUS_API_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def api(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server that the environment names, with a key."""
    with talking() as found:
        monkeypatch.setenv("FLOW_NEXUS_URL", found.url)
        monkeypatch.setenv("FLOW_NEXUS_API_KEY", KEY)
        yield found
