"""Markdown has sentences of at most 20 words, short table cells, and names only files that exist.

README.md also has at most 150 lines. Code blocks and headings are not checked.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.lint.prose import long_sentences

MOST_CELL_CHARACTERS = 120
MOST_README_LINES = 150
_ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"\s*(```|~~~)")
_ITEM = re.compile(r"^\s*([-*]|\d+\.)\s+")
_COMMENT = re.compile(r"<!--.*?-->")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)")
_NAMED_FILE = re.compile(r"`((?:api|deploy|docs|lock|migrations|tests|workers)/[^`\s<{…]*)`")

Numbered = tuple[int, str]


def breaches(path: Path) -> Iterator[Numbered]:
    """Yield the line and the text of each breach in one Markdown file."""
    lines = path.read_text().splitlines()
    if path.name == "README.md" and path.resolve().parent == _ROOT and len(lines) > MOST_README_LINES:
        yield len(lines), f"README.md has {len(lines)} lines; it may have {MOST_README_LINES}"
    text = list(_outside_code(lines))
    yield from _long_cells(text)
    yield from _missing_files(path.parent, text)
    for line, paragraph in _paragraphs(text):
        yield from long_sentences(line, _LINK.sub(r"\1", paragraph).replace("*", ""))


def _outside_code(lines: list[str]) -> Iterator[Numbered]:
    """Yield each line outside of code blocks with its number. Their fences become empty lines."""
    in_code = False
    for number, line in enumerate(lines, start=1):
        if _FENCE.match(line):
            in_code = not in_code
            yield number, ""
        elif not in_code:
            yield number, _COMMENT.sub("", line)


def _is_table(line: str) -> bool:
    return line.lstrip().startswith("|")


def _long_cells(text: list[Numbered]) -> Iterator[Numbered]:
    for number, line in text:
        if not _is_table(line):
            continue
        for cell in line.strip().strip("|").split("|"):
            length = len(cell.strip())
            if length > MOST_CELL_CHARACTERS:
                yield number, f"a table cell of {length} characters: {cell.strip()[:60]}"


def _missing_files(folder: Path, text: list[Numbered]) -> Iterator[Numbered]:
    """Yield each link target and each file in backticks that is not in the repository."""
    for number, line in text:
        for match in _LINK.finditer(line):
            target = match.group(2).partition("#")[0]
            if target and "://" not in target and not (folder / target).exists():
                yield number, f"a link to a file that does not exist: {target}"
        for match in _NAMED_FILE.finditer(line):
            name = match.group(1).partition(":")[0]
            if not any(_ROOT.glob(name.rstrip("/"))):
                yield number, f"a file that does not exist: {name}"


def _paragraphs(text: list[Numbered]) -> Iterator[Numbered]:
    """Yield each paragraph and each list item with its first line, without headings and tables."""
    start, words = 0, ""
    for number, line in text:
        ends = not line.strip() or line.startswith("#") or _is_table(line)
        if words and (ends or _ITEM.match(line)):
            yield start, words
            words = ""
        if not ends:
            start = start if words else number
            words = f"{words} {_ITEM.sub('', line).strip()}".strip()
    if words:
        yield start, words
