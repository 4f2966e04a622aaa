"""A child process that never outlives the stack."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from api.cli.embedded.errors import StackError

_PR_SET_PDEATHSIG = 1
_PROBE_EVERY_S = 0.05
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class User:
    """Whom a part runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Part:
    """How one part is started, known to be ready, and stopped. Secrets go into `env`, never into `argv`."""

    name: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: User | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 8.0
    ready_timeout_s: float = 60.0


class Child:
    """A part that runs."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.started = time.monotonic()
        with part.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the argument vectors are our own
                part.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **part.env},
                start_new_session=True,
                preexec_fn=_die_with_parent(part.stop_signal),
                user=part.user.uid if part.user else None,
                group=part.user.gid if part.user else None,
                extra_groups=[] if part.user else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait_ready(self) -> float:
        """Seconds until the part was ready. StackError when it dies first or takes too long."""
        end = self.started + self.part.ready_timeout_s
        while not self.part.ready():
            if self.exit_code is not None:
                raise StackError(f"{self.part.name} ended with exit code {self.exit_code}; see {self.part.log}")
            if time.monotonic() > end:
                raise StackError(
                    f"{self.part.name} was not ready within {self.part.ready_timeout_s:.0f} s; see {self.part.log}"
                )
            time.sleep(_PROBE_EVERY_S)
        return time.monotonic() - self.started

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        """Ask, wait, and after the timeout kill the whole process group."""
        if self.exit_code is None:
            self._process.send_signal(self.part.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.part.stop_timeout_s)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def _die_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl
    number = int(stop_signal)

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, number)

    return ask_kernel
