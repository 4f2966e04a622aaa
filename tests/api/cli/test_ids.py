"""Ids as arguments, and ids in the help."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from api.cli.commands import keys, neural, sandboxes
from api.cli.lazy import LazyCommand
from tests.api.cli.fake_api import FakeApi, run

GROUPS = {"neural": neural.app, "sandbox": sandboxes.app, "keys": keys.app}


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        if isinstance(command, LazyCommand):
            command = command.load()
        yield (*names, name), command
        yield from commands(command, *names, name)


ALL = [
    (words, command) for name, app in GROUPS.items() for words, command in commands(typer.main.get_command(app), name)
]  # fmt: skip
WITH_ID = [(words, command) for words, command in ALL if any(p.name.endswith("_id_argument") for p in command.params)]


def test_every_command_with_a_required_id_takes_it_as_an_argument() -> None:
    assert len(WITH_ID) >= 20
    for words, command in ALL:
        required = [p.name for p in command.params if p.name.endswith("_id") and p.required]
        assert not required, f"{words}: {required} has no argument"


@pytest.mark.parametrize(("words", "command"), WITH_ID, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_the_help_shows_an_id_as_it_is_printed(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], command: Any
) -> None:
    argument = next(p for p in command.params if p.name.endswith("_id_argument"))
    assert run(*words, "--help") == 0
    assert "for example" in capsys.readouterr().out
    assert any(mark in argument.help for mark in ("cls_", "node_", "train_fed_", "search_", "mdl_", "key_", "pred_"))


def test_an_id_is_given_once(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("neural", "train", "status") == 2
    assert "--training-id" in capsys.readouterr().err
    assert run("neural", "train", "status", "train_1", "--training-id", "train_1") == 2
    assert "once" in capsys.readouterr().err
    assert run("neural", "train", "status", "") == 2
