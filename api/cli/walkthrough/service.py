"""The service that a walkthrough uses: the one that runs, or an embedded one for this run."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from api.cli import config
from api.cli.config import Target
from api.cli.errors import UsageError
from api.cli.http.client import ApiClient
from api.cli.session import Session
from api.cli.walkthrough.screen import Screen

_PROBE_S: Final = 5.0
HOME: Final = Path(".flow-nexus")


def is_running(session: Session) -> bool:
    """Return whether there is a service to use. One that the user has named always counts."""
    if config.is_chosen(session.url, os.environ):
        return True
    target = config.resolve(session.url, session.api_key, os.environ, Path.cwd())
    try:
        answer = httpx.get(f"{target.url}/readyz", timeout=_PROBE_S, trust_env=False)
        content: Any = answer.json()
    except (httpx.HTTPError, ValueError):
        return False
    # Another program may listen at the default address.
    return isinstance(content, dict) and "ready" in content


@contextmanager
def embedded(screen: Screen, home: Path) -> Iterator[ApiClient]:
    """Run the embedded stack in a folder for this walkthrough; yield its client.

    Raises:
        StackError: The stack cannot start.
        UsageError: This system has no embedded stack.
    """
    if sys.platform == "win32":
        raise UsageError("the embedded stack needs Linux or macOS")
    from api.embedded.stack import EmbeddedStack

    stack = EmbeddedStack(home, port=0)
    with screen.step("starting the service", f"service started for this run, with its state in {home}"):
        stack.__enter__()
    try:
        with closing(ApiClient(Target(stack.url, stack.api_key))) as client:
            yield client
    finally:
        with screen.step("stopping the service", "service stopped"):
            stack.__exit__(None, None, None)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that it also ends what was started."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
