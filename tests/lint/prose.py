"""Sentences of docstrings, comments and schema descriptions have at most 20 words."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

MOST_WORDS = 20
_DESCRIBED = {"description", "help", "summary"}
_CODE = re.compile(r"`[^`]*`|https?://\S+|\S*[/_=<>{}|\[\]]\S*")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_ENDS = re.compile(r"(?<=[.!?:])\s+|\n\s*\n|\n\s*[-*]\s|\n\s*\d+\.\s")
_PRAGMA = re.compile(r"#\s*(noqa|type:|!|pragma|fmt:)")


def breaches(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the words of each sentence that is too long."""
    source = path.read_text()
    for line, text in _docstrings(ast.parse(source)):
        yield from long_sentences(line, text)
    for line, text in _comments(source):
        yield from long_sentences(line, text)


def long_sentences(line: int, text: str) -> Iterator[tuple[int, str]]:
    """Yield `line` and the start of each sentence of `text` that has more than 20 words."""
    for sentence in _ENDS.split(text):
        # A table or an indented block is no sentence.
        if re.search(r"\S {2,}\S", sentence) or sentence.startswith((">>>", "    ")):
            continue
        words = _WORD.findall(_CODE.sub("x", sentence))
        if len(words) > MOST_WORDS:
            start = " ".join(sentence.split())[:90]
            yield line, f"a sentence of {len(words)} words: {start}"


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
        elif isinstance(node, ast.keyword) and node.arg in _DESCRIBED and isinstance(node.value, ast.Constant):
            yield node.value.lineno, str(node.value.value)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    start, block, last = 0, "", -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or _PRAGMA.match(token.string):
            continue
        text, line = token.string.lstrip("# "), token.start[0]
        if line == last + 1:
            block += " " + text
        else:
            if block:
                yield start, block
            start, block = line, text
        last = line
    if block:
        yield start, block
