"""Output: JSON for programs on stdout, tables for people, notes for people on stderr."""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

Format = Literal["json", "table"]

_STATUS_STYLES = {
    **dict.fromkeys(("running", "completed", "connected", "ok"), "green"),
    **dict.fromkeys(("provisioning", "initializing", "pending", "training"), "cyan"),
    **dict.fromkeys(("stopping", "stopped", "terminating", "lost"), "yellow"),
    **dict.fromkeys(("failed", "refused"), "red"),
    "terminated": "dim",
}


def wants_json(chosen: Format | None) -> bool:
    return chosen == "json" or (chosen is None and not sys.stdout.isatty())


@cache
def console() -> Console:
    return Console(highlight=False)


@cache
def notes() -> Console:
    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Print one line for people on stderr."""
    print(plain(text), file=sys.stderr)


def write_json(payload: object, *, line: bool = False) -> None:
    """Print JSON in UTF-8 with any locale; `line` puts it on one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # UTF-8 cannot encode lone surrogates. Their backslash form is valid JSON.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    print(json.dumps(payload, ensure_ascii=False, indent=None if line else 2), flush=True)


def plain(value: object) -> str:
    """Return text that cannot control the terminal: a visible mark replaces control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def cell(value: object, style: str = "") -> Text:
    """Return a value for a table. An unknown value is a dash."""
    if value is None or value == "":
        return Text("–", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no", style=style)
    if isinstance(value, float):
        return Text(f"{value:.4g}", style=style)
    if isinstance(value, list):
        return Text(", ".join(plain(item) for item in value), style=style)
    return Text(plain(value), style=style)


def status(value: object) -> Text:
    return cell(value, _STATUS_STYLES.get(str(value), ""))


def percent(value: float | None) -> Text:
    return cell(None if value is None else f"{value:.1%}")


def usd(value: float | None) -> Text:
    return cell(None if value is None else f"${value:.4f}")


def table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], *, right: Iterable[str] = ()) -> Table:
    """Return a table. The columns in `right` hold numbers."""
    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    numbers = set(right)
    for position, name in enumerate(columns):
        # The first column is an identifier. It stays on one line, so that people can copy it.
        grid.add_column(name, justify="right" if name in numbers else "left", no_wrap=position == 0)
    for row in rows:
        grid.add_row(*row)
    if not grid.row_count:
        grid.add_row(Text("none", style="dim"))
    return grid


def facts(pairs: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return the facts of one thing, one on a line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value)
    return grid
