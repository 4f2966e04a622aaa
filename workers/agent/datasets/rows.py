"""The rows of a file, and their place in it."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["line", "row"]


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row cannot be used. `what` and `remedy` are parts of a sentence and quote no value."""

    code: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its parsed value, or the problem that prevents its parsing.

    `number` counts from 1.
    """

    unit: Unit
    number: int
    value: object = None
    problem: RowProblem | None = None
