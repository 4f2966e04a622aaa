"""What a person sees while a walkthrough runs: a line for each step that is done.

A terminal also shows what is being done. A pipe gets only lines.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from api.cli.output import printing

_PIPE_WIDTH: Final = 400


class Screen:
    """The output of one walkthrough. `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=True) if quiet else printing.console()

    @contextmanager
    def step(self, work: str, done: str) -> Iterator[None]:
        """Show `work` while it lasts on a terminal, and then `done` with its seconds."""
        started = time.monotonic()
        is_live = self.console.is_terminal
        with self.console.status(Text(f"{work} …", style="dim"), spinner="dots") if is_live else nullcontext():
            yield
        self.line(Text.assemble(("✓", "green"), f" {done} ", (f"{time.monotonic() - started:.1f} s", "dim")))

    def line(self, text: RenderableType) -> None:
        self.console.print(text, soft_wrap=True)

    def show(self, picture: RenderableType) -> None:
        """Print tables. A pipe has no width, so it gets whole lines."""
        console = self.console if self.console.is_terminal else Console(width=_PIPE_WIDTH, highlight=False)
        console.print(picture)

    def note(self, text: str) -> None:
        self.line(Text(text, style="dim"))
