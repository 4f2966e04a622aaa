"""A child process that ends when the stack ends."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LONGEST_LOG = 16 << 20
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class User:
    """The system user that a service runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """How to start one service, how to see that it is ready, and how to stop it.

    Secrets go into `env` or into files, never into `argv`. `env` is the whole environment.
    `ready` gets the size of the log at the start, so it can skip what an earlier process wrote.
    The service gets `orphan_signal` when its supervisor has died.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    ready: Callable[[int], bool]
    user: User | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 3.0
    orphan_signal: signal.Signals = signal.SIGKILL
    ready_timeout_s: float = 60.0


class ServiceProcess:
    """One running process of a service.

    The thread that creates it must live as long, because Linux sees that thread as the parent.
    `keep_open` is the descriptor of a lock file.
    The file stays locked while any process of the stack lives.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self, service: ServiceSpec, keep_open: int) -> None:
        self.service = service
        self.started = time.monotonic()
        _rotate(service.log)
        self._log_size = service.log.stat().st_size if service.log.exists() else 0
        with service.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the stack builds the argument vectors
                service.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(service.env),
                # Not the caller's folder: `python -m` would import modules from there first.
                cwd=service.log.parent,
                pass_fds=(keep_open,),
                start_new_session=True,
                preexec_fn=_follow_parent(service.orphan_signal),
                user=service.user.uid if service.user else None,
                group=service.user.gid if service.user else None,
                extra_groups=[] if service.user else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started

    def is_ready(self) -> bool:
        return self.service.ready(self._log_size)

    def kill(self) -> None:
        self._process.kill()

    def stop(self, timeout_s: float) -> None:
        """Send the stop signal and wait up to `timeout_s`. Then kill the whole process group."""
        if self.exit_code is None:
            self._process.send_signal(self.service.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()


def _follow_parent(number: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # The parent died before the call above.
            os.kill(os.getpid(), signal.SIGKILL)

    return ask_kernel


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LONGEST_LOG:
        log.replace(log.with_name(log.name + ".1"))
