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
_START, _STEPS, _ADMIN, _OPERATE = "Start here", "Step by step", "For admins", "For operators"
_COMMANDS = "api.cli.commands"
_OWN = ("api", "workers", "migrations")
_Root = lazy_group(
    LazyCommand("demo", f"{_COMMANDS}.demo", "demo", "Train, predict and export once, then stop everything.", panel=_START),
    LazyCommand("up", f"{_COMMANDS}.up", "up", "Start the whole service on this machine.", panel=_START),
    LazyCommand("train", f"{_COMMANDS}.train", "train", "Train on a file of your own, and export the model.", panel=_START),
    LazyCommand("data", f"{_COMMANDS}.data", "app", "Data for trainings: generate, check, split.", panel=_START),
    LazyCommand("dashboard", f"{_COMMANDS}.dashboard", "dashboard", "Open the dashboard, or print its link.", panel=_START),
    LazyCommand(
        "neural", f"{_COMMANDS}.neural", "app", "Clusters, nodes, trainings, searches, predictions, models.", panel=_STEPS
    ),
    LazyCommand("sandbox", f"{_COMMANDS}.sandboxes", "app", "Sandboxes: files, commands, logs.", panel=_STEPS),
    LazyCommand(
        "executions", f"{_COMMANDS}.executions", "app", "Code in the background: list, status, logs, cancel.", panel=_STEPS
    ),
    LazyCommand("keys", f"{_COMMANDS}.keys", "app", "API keys: create, list, rotate, revoke.", panel=_ADMIN),
    LazyCommand("webhooks", f"{_COMMANDS}.webhooks", "app", "Webhooks: create, list, test, deliveries.", panel=_ADMIN),
    LazyCommand("projects", f"{_COMMANDS}.projects", "app", "Quotas of a project, and their use.", panel=_ADMIN),
    LazyCommand("doctor", f"{_COMMANDS}.doctor", "doctor", "Check this deployment, one line each.", panel=_OPERATE),
    LazyCommand("migrate", f"{_COMMANDS}.migrate", "migrate", "Bring the database to this release's tables.", panel=_OPERATE),
    LazyCommand("backup", f"{_COMMANDS}.backup", "backup", "Save database, models and secret key in a file.", panel=_OPERATE),
    LazyCommand("restore", f"{_COMMANDS}.restore", "restore", "Restore them on an empty machine.", panel=_OPERATE),
)

app = typer.Typer(
    cls=_Root,
    callback=common_options,
    help="Train neural networks across isolated sandboxes with federated learning.",
    no_args_is_help=True,
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
    except ModuleNotFoundError as error:
        return _report_error(USAGE, _missing(error))
    except typer.TyperException as error:
        return _report_error(error.exit_code, f"{_sentence(error.format_message())} Try `{_command_of(error)} --help`")
    except typer.Abort:
        return _INTERRUPTED
    return code if isinstance(code, int) else 0


def _missing(error: ModuleNotFoundError) -> str:
    """Return what to install for a module that an installation of one part lacks.

    Raises:
        ModuleNotFoundError: The module is our own, so the installation is broken.
    """
    if not error.name or error.name.partition(".")[0] in _OWN:
        raise error
    from api.embedded.extras import install_command

    return f"this command needs the Python package {error.name!r}: {install_command(error.name)}"


def _sentence(message: str) -> str:
    return message if message.endswith((".", "?", "!")) else f"{message}."


def _command_of(error: typer.TyperException) -> str:
    """Return the command whose arguments are wrong, with the groups that it is in."""
    return str(getattr(getattr(error, "ctx", None), "command_path", "flow-nexus"))


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
