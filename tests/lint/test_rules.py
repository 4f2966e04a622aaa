"""Each rule finds its breach, and finds none in a good text."""

from pathlib import Path

import pytest

from tests.lint import markdown, prose
from tests.lint.__main__ import main

LONG = " ".join(["word"] * 21)
SHORT = " ".join(["word"] * 20)


def markdown_breaches(folder: Path, text: str, name: str = "page.md") -> list[str]:
    path = folder / name
    path.write_text(text)
    return [what for _, what in markdown.breaches(path)]


def prose_breaches(folder: Path, source: str) -> list[int]:
    path = folder / "module.py"
    path.write_text(source)
    return [line for line, _ in prose.breaches(path)]


@pytest.mark.parametrize(
    "source",
    [f'"""{LONG}."""\n', f"# {LONG}\n", f'field(description="{LONG}")\n', f"# {SHORT}\n# {SHORT}\n"],
    ids=["docstring", "comment", "description", "comment over two lines"],
)
def test_a_long_sentence_in_code_is_found(tmp_path: Path, source: str) -> None:
    assert prose_breaches(tmp_path, source) == [1]


def test_short_sentences_in_code_are_not(tmp_path: Path) -> None:
    assert prose_breaches(tmp_path, f'"""{SHORT}. {SHORT}."""\nx = "{LONG}"  # noqa: E501 {LONG}\n') == []


@pytest.mark.parametrize(
    "text",
    [f"{LONG}.\n", f"- {LONG}\n", f"{SHORT}\n{SHORT}\n", f"{SHORT} - {SHORT}\n"],
    ids=["paragraph", "item", "over two lines", "dash in a sentence"],
)
def test_a_long_sentence_in_markdown_is_found(tmp_path: Path, text: str) -> None:
    (what,) = markdown_breaches(tmp_path, text)
    assert what.startswith("a sentence of ")


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{LONG}\n```\n",
        f"# {LONG}\n",
        f"| {SHORT} | {SHORT} |\n",
        f"{SHORT}. {SHORT}.\n",
        f"**{SHORT}.** {SHORT}.\n",
        f"`{LONG}`\n",
        f"- {SHORT}\n" * 2,
    ],
    ids=["code block", "heading", "table", "two sentences", "a bold sentence", "inline code", "two items"],
)
def test_what_is_no_long_sentence_is_not(tmp_path: Path, text: str) -> None:
    assert markdown_breaches(tmp_path, text) == []


def test_a_long_table_cell_is_found(tmp_path: Path) -> None:
    assert markdown_breaches(tmp_path, f"| a | {'x' * 120} |\n") == []
    assert markdown_breaches(tmp_path, f"| a | {'x' * 121} |\n") == [f"a table cell of 121 characters: {'x' * 60}"]


def test_a_file_that_does_not_exist_is_found(tmp_path: Path) -> None:
    assert markdown_breaches(tmp_path, "`tests/lint/prose.py`, `tests/lint/*.py`, `tests/<noun>.py`\n") == []
    assert markdown_breaches(tmp_path, "`tests/lint/poetry.py`\n") == ["a file that does not exist: tests/lint/poetry.py"]
    assert markdown_breaches(tmp_path, "[here](page.md#top), [there](https://example.org/x)\n") == []
    assert markdown_breaches(tmp_path, "[here](gone.md)\n") == ["a link to a file that does not exist: gone.md"]


def test_a_long_readme_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "_ROOT", tmp_path.resolve())
    assert markdown_breaches(tmp_path, "word\n\n" * 75, "README.md") == []
    assert markdown_breaches(tmp_path, "word\n" * 151, "README.md")[0] == "README.md has 151 lines; it may have 150"


def test_the_program_prints_breaches_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{SHORT}.\n")
    assert main([str(tmp_path)]) == 0
    page.write_text(f"{LONG}.\n")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{page}:1: a sentence of 21 words: {LONG[:90]}\n"
