"""Run the code of an execution, store its output and write down its end."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Literal

from ..host.envd.memory_kills import visible_count
from ..host.envd.process_tree import adopt_orphans, die_with_parent, kill_descendants
from .folder import MARK, Folder, Job

_SHELL = "/bin/sh"
_CHUNK = 64 << 10
_TICK_S = 0.1
# A process that the code left behind may keep the pipes open, so the wait for output is short.
_DRAIN_S = 1.0
_SHORT_S = 0.02


def run(folder: Folder) -> None:
    """Run the job of the folder, unless another process runs it or has run it."""
    job = folder.job()
    while job is not None and not folder.is_claimed:
        with folder.lock() as is_held:
            if is_held and folder.claim():
                folder.remove_job()
                _Supervisor(folder, job).run()
                return
        time.sleep(_SHORT_S)
    folder.remove_job()


class _Output:
    """The stored output of one stream, at most `room` bytes of it."""

    def __init__(self, path: Path, room: int) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._room = room
        self.is_full = False

    def add(self, data: bytes) -> None:
        self.is_full = self.is_full or len(data) > self._room
        data = data[: self._room]
        self._room -= len(data)
        # On a full disk the code may go on, because it may remove files.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._file, data) :]


class _Supervisor:
    def __init__(self, folder: Folder, job: Job) -> None:
        self._folder = folder
        self._job = job
        self._is_stopped = False
        self._limit: Literal["timeout", "output", "memory"] | None = None
        self._outputs = {name: _Output(folder.output(name), job["max_output"]) for name in ("stdout", "stderr")}

    def run(self) -> None:
        adopt_orphans()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        kills_before = self._memory_kills()
        started_at, started = time.time(), time.monotonic()
        with _spooled(self._job["input"].encode()) as stdin:
            process = subprocess.Popen(  # noqa: S603 (the control plane's command)
                [_SHELL, "-c", self._job["command"]],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={**os.environ, MARK: self._folder.name},
            )
        status = self._follow(process, started + self._job["timeout_s"])
        subprocess.run([_SHELL, "-c", self._job["cleanup"]], stdin=subprocess.DEVNULL, check=False)  # noqa: S603
        exit_code = 128 - status if status < 0 else status
        if exit_code == 128 + signal.SIGKILL and self._memory_kills() > kills_before:
            self._limit = self._limit or "memory"
        is_killed = self._is_stopped or self._limit in ("timeout", "output")
        self._folder.write_end(
            {
                "exit_code": None if is_killed else exit_code,
                "limit": self._limit,
                "stopped": self._is_stopped,
                "started_at": started_at,
                "ended_at": time.time(),
            }
        )

    def _memory_kills(self) -> int:
        return visible_count(machine_is_own=self._job["machine_is_own"])

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_stopped = True

    def _follow(self, process: "subprocess.Popen[bytes]", deadline: float) -> int:
        """Store the output until the code has ended. Return its status, -n for signal n."""
        with selectors.DefaultSelector() as selector:
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
                selector.register(pipe, selectors.EVENT_READ, self._outputs[name])  # type: ignore[arg-type]
            status: int | None = None
            drain_until = deadline
            while status is None or (selector.get_map() and time.monotonic() < drain_until):
                self._store(selector)
                if status is None and (status := _reap(process.pid)) is not None:
                    drain_until = time.monotonic() + _DRAIN_S
                if status is None and self._must_end(deadline):
                    kill_descendants()
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
        return status

    def _store(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(_TICK_S):
            data = os.read(key.fd, _CHUNK)
            if data:
                key.data.add(data)
            else:
                selector.unregister(key.fileobj)
        if not selector.get_map():
            time.sleep(_SHORT_S)

    def _must_end(self, deadline: float) -> bool:
        if self._is_stopped or self._limit:
            return True
        if any(output.is_full for output in self._outputs.values()):
            self._limit = "output"
        elif time.monotonic() >= deadline:
            self._limit = "timeout"
        return self._limit is not None


def _spooled(data: bytes) -> IO[bytes]:
    """Return a file in memory with the data. A full disk does not prevent it."""
    if sys.platform == "linux":
        file: IO[bytes] = os.fdopen(os.memfd_create("input"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(data)
    file.flush()
    file.seek(0)
    return file


def _reap(code: int) -> int | None:
    """Reap ended children, adopted ones too. Return the status of `code` if it has ended."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == code:
                status = os.waitstatus_to_exitcode(raw)
    return status
