"""`flow-nexus up`: the embedded stack in the foreground."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from api.cli.embedded.errors import StackError
from api.cli.embedded.stack import EmbeddedStack, check_platform


def up(
    home: Annotated[Path, typer.Option(help="folder for all state")] = Path(".flow-nexus"),
    host: Annotated[str, typer.Option(help="address that the API listens on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the API")] = 8700,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="steps that the worker does at once")] = 32,
) -> None:
    """Run the whole service on this machine: Postgres, Redis, sandbox host, worker, beat and API.

    Ctrl-C stops all of it. FLOW_NEXUS_DATABASE_URL, FLOW_NEXUS_REDIS_URL and E2B_API_KEY replace the embedded parts.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        check_platform()
        with EmbeddedStack(home, host=host, port=port, concurrency=concurrency, say=_say) as stack:
            _say("")
            _say(f"url        {stack.url}")
            _say(f"key        {stack.api_key}")
            _say(f"use it     set -a; . {home}/env; set +a; flow-nexus neural cluster list")
            _say("stop it    Ctrl-C")
            stop.wait()
            _say("stopping")
    except StackError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _say(line: str) -> None:
    print(line, flush=True)
