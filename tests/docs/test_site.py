"""The documentation as a website: built without a warning. It loads nothing from another host."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.domain.events import EventType
from api.domain.problem_codes import CATALOGUE

ROOT = Path(__file__).parents[2]
# The elements that make a browser load something, and the address that they load.
LOADING = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*>")
ADDRESS = re.compile(r'(?:src|href)="([^"]+)"')
NOT_LOADED = re.compile(r'rel="(?:canonical|prev|next|alternate)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    yield folder
    shutil.rmtree(folder)


def test_no_page_loads_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        elements = [element for element in LOADING.findall(page.read_text()) if not NOT_LOADED.search(element)]
        loaded = [address for element in elements for address in ADDRESS.findall(element)]
        assert loaded
        assert not [address for address in loaded if address.startswith(("http:", "https:", "//"))], page


def test_the_generated_pages_have_every_command_and_operation(site: Path) -> None:
    commands, api = ((site / f"reference/{name}.html").read_text() for name in ("commands", "api"))
    for words in ("flow-nexus up", "flow-nexus train", "flow-nexus neural cluster init", "flow-nexus sandbox upload"):
        assert words in commands
    assert "--learning-rate" in commands
    for operation in ("POST /v1/clusters", "GET /v1/trainings/{training_id}/rounds", "PUT /v1/sandboxes/{sandbox_id}/files"):
        assert operation in api


def test_the_generated_pages_are_complete(site: Path) -> None:
    errors, events = ((site / "reference" / name).read_text() for name in ("errors.html", "events.html"))
    assert [code for code in CATALOGUE if f"<code>{code}</code>" not in errors] == []
    assert [event_type for event_type in EventType if f"<code>{event_type}</code>" not in events] == []
