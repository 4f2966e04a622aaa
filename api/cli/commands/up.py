"""`flow-nexus up`: the embedded stack in the foreground."""

import shlex
import signal
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from api.cli.commands.dashboard import dashboard_link
from api.cli.errors import UsageError

_INTERRUPTED = 130


def up(
    home: Annotated[Path, typer.Option(help="The folder for all state.")] = Path(".flow-nexus"),
    host: Annotated[str, typer.Option(help="The address of the API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the API.")] = 8700,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="The number of steps that the worker runs at once.")] = 32,
    api_workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="The number of API processes. The default is one for each two cores.")
    ] = None,
) -> None:
    """Run the whole service on this machine: Postgres, Redis, sandbox host, worker, beat and API.

    Ctrl-C stops all of them. FLOW_NEXUS_DATABASE_URL, FLOW_NEXUS_REDIS_URL and E2B_API_KEY replace
    the embedded Postgres, Redis and sandbox host.
    """
    if sys.platform == "win32":
        raise UsageError("the embedded stack needs Linux or macOS")
    from api.embedded.errors import StackInterruptedError
    from api.embedded.stack import EmbeddedStack

    # A signal handler may put into a SimpleQueue. It must not use other queues or locks.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: signals.put(caught))
    stack = EmbeddedStack(
        home,
        host=host,
        port=port,
        concurrency=concurrency,
        api_workers=api_workers,
        report=_print_line,
        interrupted=lambda: not signals.empty(),
    )
    try:
        with stack:
            _print_line("")
            _print_line(f"url        {stack.url}")
            _print_line(f"key        {stack.api_key}")
            _print_line(f"look at it {dashboard_link(stack.url, stack.api_key)}")
            _print_line(
                f"use it     set -a; . {shlex.quote(str(stack.folder.path / 'env'))}; set +a; flow-nexus neural cluster list"
            )
            _print_line("stop it    Ctrl-C")
            signals.get()
            _print_line("stopping")
    except StackInterruptedError:
        raise typer.Exit(_INTERRUPTED) from None
    _print_line("stopped")


def _print_line(line: str) -> None:
    print(line, flush=True)
