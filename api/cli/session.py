"""The common part of every command: the connection options, the client and the output."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from api.cli import config
from api.cli.ids import with_ids, with_positional_ids
from api.cli.output import printing
from api.cli.output.printing import Format

if TYPE_CHECKING:
    from rich.console import RenderableType

    from api.cli.http.answer import Answer
    from api.cli.http.client import ApiClient

T = TypeVar("T")
_PANEL = "Connection and output"
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="The output format. Default: table on a terminal, json elsewhere.", rich_help_panel=_PANEL),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help=f"The URL of the API. The variable {config.URL_VARIABLE} sets it too.", rich_help_panel=_PANEL),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        help=f"The API key. Prefer the variable {config.KEY_VARIABLE}: process lists show arguments.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass
class Session:
    """The common options of one run of one command."""

    output_format: Format | None = None
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @functools.cached_property
    def target(self) -> config.Target:
        return config.resolve(self.url, self.api_key, os.environ, Path.cwd())

    @functools.cached_property
    def client(self) -> "ApiClient":
        # httpx takes longer to import than --help should take.
        from api.cli.http.client import ApiClient

        return ApiClient(self.target)

    def close(self) -> None:
        """Close the client, if the command has used one."""
        if "client" in self.__dict__:
            self.client.close()

    @property
    def json(self) -> bool:
        return printing.wants_json(self.output_format)

    def show(self, answer: "Answer[T]", view: Callable[[T], "RenderableType"]) -> None:
        """Print the JSON of the answer unchanged, or the output of `view` for people."""
        self.show_local(answer.json, lambda: view(answer.value))

    def show_local(self, payload: object, view: Callable[[], "RenderableType"]) -> None:
        """Print a result that this command made: as JSON, or the output of `view` for people."""
        if self.json:
            printing.write_json(payload)
        else:
            printing.console().print(view())

    @contextmanager
    def busy(self, work: str) -> Iterator[None]:
        """Show a spinner on stderr during slow work."""
        if self.json or not sys.stderr.isatty():
            yield
            return
        with printing.notes().status(Text(work, style="dim"), spinner="dots"):
            yield

    @contextmanager
    def progress(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on stderr. Yield a callback that takes the number of bytes so far."""
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
    """Store the common options. This callback of every group accepts them before the subcommand."""
    context.obj = {**(context.obj or {}), **given(output_format=output_format, url=url, api_key=api_key)}


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """Make a Typer command from a function whose first parameter is a Session.

    The command has the options of the function and the common options.
    """
    _, *parameters = inspect.signature(function, eval_str=True).parameters.values()
    options, id_options = with_positional_ids(parameters)
    _, *common = inspect.signature(common_options, eval_str=True).parameters.values()
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    names = [parameter.name for parameter in common]

    @functools.wraps(function)
    def command(context: typer.Context, **values: Any) -> None:
        common_values = given(**{name: values.pop(name) for name in names})
        values = with_ids(values, id_options)
        with closing(Session(**{**(context.obj or {}), **common_values})) as session:
            function(session, **values)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*options, *common)]
    signature = inspect.Signature([context, *keyword_only])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    del command.__dict__["__wrapped__"]
    return command


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None. The API has its own defaults for the others."""
    return {name: value for name, value in fields.items() if value is not None}


def group(help: str) -> typer.Typer:  # noqa: A002
    return typer.Typer(callback=common_options, help=help, no_args_is_help=True, add_completion=False)


def truth(flag: str | None) -> bool | None:
    """Return the value of a `--flag true|false`; None without the flag."""
    return None if flag is None else flag == "true"


def failed(status: str | None) -> bool:
    """Return whether this final status of a resource means a failure."""
    return status in ("failed", "refused")
