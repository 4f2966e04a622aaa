"""What every command has: the options --format, --url and --api-key, an API client, and a way to show the answer."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from api.cli import config
from api.cli.errors import CliError
from api.cli.output import printing
from api.cli.output.printing import Format

if TYPE_CHECKING:
    from rich.console import RenderableType

    from api.cli.http.client import ApiClient

_PANEL = "Connection and output"
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Default: table on a terminal, json elsewhere.", rich_help_panel=_PANEL)
]
UrlOption = Annotated[str | None, typer.Option("--url", help=f"Of the API; or {config.URL_VARIABLE}.", rich_help_panel=_PANEL)]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", help=f"Better in {config.KEY_VARIABLE}, which no process list shows.", rich_help_panel=_PANEL),
]


@dataclass
class Session:
    """The options in force for one run of one command."""

    output_format: Format | None = None
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @functools.cached_property
    def client(self) -> "ApiClient":
        # httpx takes longer to import than --help may take.
        from api.cli.http.client import ApiClient

        return ApiClient(config.resolve(self.url, self.api_key, os.environ, Path.cwd()))

    @property
    def json(self) -> bool:
        return printing.wants_json(self.output_format)

    def show(self, payload: Any, view: Callable[[Any], "RenderableType"]) -> None:
        """Print the API's answer as it is, or through `view` for people."""
        if self.json:
            printing.write_json(payload)
            return
        try:
            picture = view(payload)
        except (LookupError, TypeError, AttributeError, ValueError):
            raise CliError("the API's answer is not shaped as expected; --format json shows it") from None
        printing.console().print(picture)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """A sign of life on stderr while something slow runs."""
        if self.json or not sys.stderr.isatty():
            yield
            return
        with printing.notes().status(Text(doing, style="dim"), spinner="dots"):
            yield

    @contextmanager
    def progress(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar on stderr for bytes on their way; yields what is to be told how many have passed."""
        if self.json or not sys.stderr.isatty():
            yield lambda _bytes: None
            return
        columns = (TextColumn("{task.description}", markup=False), BarColumn(30), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=printing.notes(), transient=True) as bar:
            task = bar.add_task(printing.plain(name), total=total)
            yield lambda done: bar.update(task, completed=done)


def common_options(
    context: typer.Context,
    output_format: FormatOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """The callback of every group, so that the options may also stand before the subcommand."""
    context.obj = {**(context.obj or {}), **given(output_format=output_format, url=url, api_key=api_key)}


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """Make a typer command of a function whose first parameter is a Session: the common options are added to its own."""
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    _, *common = inspect.signature(common_options, eval_str=True).parameters.values()
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    names = [parameter.name for parameter in common]

    @functools.wraps(function)
    def command(context: typer.Context, **values: Any) -> None:
        chosen = given(**{name: values.pop(name) for name in names})
        function(Session(**{**(context.obj or {}), **chosen}), **values)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *common)]
    signature = inspect.Signature([context, *keyword_only])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    del command.__dict__["__wrapped__"]
    return command


def given(**fields: Any) -> dict[str, Any]:
    """Only what was given: the API keeps its own defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def group(help: str) -> typer.Typer:  # noqa: A002
    return typer.Typer(callback=common_options, help=help, no_args_is_help=True, add_completion=False)


def truth(flag: str | None) -> bool | None:
    """The value of a `--flag true|false`."""
    return None if flag is None else flag == "true"


def failed(resource: Mapping[str, Any]) -> bool:
    return resource.get("status") in ("failed", "refused")
