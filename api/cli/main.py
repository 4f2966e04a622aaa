"""The `flow-nexus` command: a client of the HTTP API.

Exit codes:

- 0: success, also when the reader of a pipe (`| head -1`) left early
- 1: the server, the network or the work failed
- 2: wrong usage, or the API refused the request
- 130: interrupted
"""

import contextlib
import os
import sys
from collections.abc import Sequence

import typer

from api.cli.errors import USAGE, CliError
from api.cli.lazy import LazyCommand, lazy_group
from api.cli.output.printing import plain
from api.cli.session import common_options
from api.embedded.errors import StackError

_INTERRUPTED = 130
_Root = lazy_group(
    LazyCommand("up", "api.cli.commands.up", "up", "Start the whole service on this machine."),
    LazyCommand("demo", "api.cli.commands.demo", "demo", "Train, predict and export once, then stop everything."),
    LazyCommand("train", "api.cli.commands.train", "train", "Train on a file of your own, test and export the model."),
    LazyCommand("neural", "api.cli.commands.neural", "app", "Clusters, nodes, trainings, searches, predictions, models."),
    LazyCommand("sandbox", "api.cli.commands.sandboxes", "app", "Sandboxes: files, commands, logs."),
    LazyCommand("executions", "api.cli.commands.executions", "app", "Code in the background: list, status, logs, cancel."),
    LazyCommand("data", "api.cli.commands.data", "app", "Data for trainings: generate, check, split."),
    LazyCommand("keys", "api.cli.commands.keys", "app", "API keys: create, list, rotate, revoke."),
    LazyCommand("dashboard", "api.cli.commands.dashboard", "dashboard", "Print the link to the dashboard, or open it."),
    LazyCommand("projects", "api.cli.commands.projects", "app", "Quotas of a project, and their use."),
)

app = typer.Typer(
    cls=_Root,
    callback=common_options,
    help="Train neural networks across isolated sandboxes with federated learning.",
    no_args_is_help=True,
    add_completion=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. An error is one line on stderr, not a traceback."""
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="flow-nexus", standalone_mode=False)
        # Buffered output must fail here. At the end of the process it would print a traceback.
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # Typer and Rich end the process when the reader of the output has left.
        return _drop_output()
    except CliError as error:
        return _report_error(error.exit_code, error.message)
    except StackError as error:
        return _report_error(USAGE, str(error))
    except typer.TyperException as error:
        return _report_error(error.exit_code, error.format_message())
    except typer.Abort:
        return _INTERRUPTED
    return code if isinstance(code, int) else 0


def _drop_output() -> int:
    """Send the rest of the output to nowhere, so that Python's flush at the end does not fail."""
    sys.stdout = sys.__stdout__ or sys.stdout
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report_error(exit_code: int, message: str) -> int:
    if message:
        print(f"error: {plain(message)}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
