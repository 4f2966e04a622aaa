"""Wait for the process from which the sandbox host forks sandboxes."""

import time
from pathlib import Path

_READY_S = 120


def wait_for_template(home: Path) -> None:
    """Wait until the host of the stack in `home` can fork.

    Raises:
        TimeoutError: it cannot fork on this machine, or it takes too long.
    """
    log = home / "logs/sandboxes.log"
    end = time.monotonic() + _READY_S
    while "template process is ready" not in log.read_text():
        if time.monotonic() > end:
            raise TimeoutError("sandboxes are not forked here: see docs/sandboxes.md")
        time.sleep(0.1)
