"""The rows of a file, and their places in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Format = Literal["JSON array", "JSON object with rows", "JSON columns", "JSON Lines", "CSV", "TSV", "Parquet"]


@dataclass(frozen=True, slots=True)
class FileRow:
    """One sample. `place` is where the file has it: `row 3` or `line 3`, from 1.

    `problem` says why the row could not be read. It has no fields then.
    """

    place: str
    fields: dict[str, object] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    path: Path
    format: Format
    rows: list[FileRow]


def kind(value: object) -> str:
    """Return the name of a JSON value's type."""
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null" if value is None else type(value).__name__)
