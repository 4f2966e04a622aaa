"""`flow-nexus dashboard`: the link with the key."""

import json
from pathlib import Path

import pytest

from api.cli.main import main
from tests.api.cli.fake_api import KEY, FakeApi


def test_the_link_has_the_key_in_its_fragment(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard"]) == 0
    assert json.loads(capsys.readouterr().out) == {"url": f"{api.url}/dashboard/#key={KEY}"}
    assert api.requests == []


def test_as_a_table_it_is_the_link_alone(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--format", "table"]) == 0
    assert capsys.readouterr().out.strip() == f"{api.url}/dashboard/#key={KEY}"


def test_open_calls_the_users_browser(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setattr("webbrowser._tryorder", None)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    assert main(["dashboard", "--open"]) == 0
    assert opened.read_text() == json.loads(capsys.readouterr().out)["url"]


def test_without_a_key_there_is_no_link(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard"]) == 2
    assert "no API key" in capsys.readouterr().err
