"""What the command line says of itself: groups of commands, completion, and where to look."""

import subprocess
import sys

import pytest

from tests.api.cli.fake_api import run, without


def test_the_help_groups_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    places = [shown.index(name) for name in ("Start here", "│ demo ", "Step by step", "│ neural ", "For admins", "│ keys ")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("nural",), "Did you mean 'neural'? Try `flow-nexus --help`"),
        (("neural", "cluster", "create"), "Try `flow-nexus neural cluster --help`"),
        (("neural", "train", "distributed"), "'--dataset'. Try `flow-nexus neural train distributed --help`"),
        (("up", "--nonsense"), "Try `flow-nexus up --help`"),
    ],
)
def test_wrong_usage_names_the_help_to_read(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], hint: str) -> None:
    assert run(*words) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(("shell", "expected"), [("bash", "train\n"), ("zsh", '"train":'), ("fish", "train\t")])
def test_words_are_completed(shell: str, expected: str) -> None:
    variables = {
        "_FLOW_NEXUS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "flow-nexus neural tr",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "flow-nexus neural tr",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main"], capture_output=True, text=True, timeout=60, env={**without(), **variables}
    )
    assert done.returncode == 0
    assert expected in done.stdout
    assert "search" not in done.stdout
