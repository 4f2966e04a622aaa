"""The folder of one execution, which is its state.

`started` is created by the one process that may run the code or forbid it. A supervisor holds
`lock` for as long as it lives. `end.json` says how the code ended.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypedDict

State = Literal["absent", "running", "ended", "lost"]
# The variable by which the processes of an execution are known. Its value is the folder's name.
MARK = "FLOW_NEXUS_EXECUTION"
# The record of the end is written in place, so that a full disk cannot prevent it.
_END_BYTES = 512


class Job(TypedDict):
    """What to run: `command` with `input` as its standard input. `cleanup` removes its files."""

    command: str
    cleanup: str
    input: str
    timeout_s: float
    max_output: int
    machine_is_own: bool


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name

    def output(self, stream: str) -> Path:
        return self._path / stream

    @property
    def _job(self) -> Path:
        return self._path / "job.json"

    def job(self) -> Job | None:
        """Return what to run. None if it was removed, because the code has begun."""
        with suppress(FileNotFoundError):
            job: Job = json.loads(self._job.read_bytes())
            return job
        return None

    def remove_job(self) -> None:
        """Remove the file that holds the code and its variables."""
        self._job.unlink(missing_ok=True)

    def claim(self) -> bool:
        """Return whether the caller is the first. Only the first may run the code, or forbid it."""
        try:
            os.close(os.open(self._path / "started", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        return True

    @property
    def is_claimed(self) -> bool:
        return (self._path / "started").exists()

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the lock of the supervisor. Yield False if another process holds it."""
        descriptor = os.open(self._path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            (self._path / "end.part").write_bytes(b" " * _END_BYTES)
            yield True
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """Return the process id of the living supervisor, None without one.

        Call it only after the claim: the supervisor has then written its id.
        """
        with suppress(FileNotFoundError), (self._path / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read(20))
        return None

    def write_end(self, end: Mapping[str, Any]) -> None:
        part = self._path / "end.part"
        with part.open("r+b" if part.exists() else "wb") as file:
            file.write(json.dumps(end).encode().ljust(_END_BYTES))
        part.replace(self._path / "end.json")

    def end(self) -> dict[str, Any] | None:
        with suppress(FileNotFoundError):
            end: dict[str, Any] = json.loads((self._path / "end.json").read_bytes())
            return end
        return None

    def state(self) -> State:
        """Return `lost` if the supervisor has died without a record of the end.

        A supervisor that is about to start counts as running.
        """
        if self._job.exists():
            return "running"
        if not self.is_claimed:
            return "absent"
        if (self._path / "end.json").exists():
            return "ended"
        if self.holder() is not None:
            return "running"
        return "ended" if (self._path / "end.json").exists() else "lost"
