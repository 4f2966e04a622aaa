"""The request schemas describe the options of the commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.schemas.clusters import ClusterCreate
from tests.api.cli.fake_api import run


def shown(text: str) -> str:
    """Return the text without the borders and the line breaks of the help table."""
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize("field", ["daa_enabled", "budget_usd", "idle_timeout_minutes"])
def test_the_help_of_an_option_is_the_description_of_its_field(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("neural", "cluster", "init", "--help") == 0
    assert shown(ClusterCreate.model_fields[field].description or "?") in shown(capsys.readouterr().out)


def test_choices_and_defaults_come_from_the_schema(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("neural", "node", "deploy", "--help") == 0
    assert "One of: worker, parameter_server, validator. Default: worker." in shown(capsys.readouterr().out)


def test_a_command_imports_no_schema(empty_folder: Path) -> None:
    """The schemas import the database layer, which takes longer than a simple command."""
    script = "import sys, api.cli.commands.neural, api.cli.commands.sandboxes; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    modules = set(result.stdout.split())
    assert not modules & {"api.schemas", "sqlalchemy", "pydantic"}
