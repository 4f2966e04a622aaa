"""Real sandbox hosts for tests. Each is the program itself, in its own process, on a free port."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from api.domain.sandboxes import SandboxSpec
from api.settings import Settings
from workers.sandboxes.client import SandboxClient

API_KEY = "test-key-of-the-sandbox-host"
ISOLATION = os.environ.get("TEST_SANDBOX_ISOLATION", "auto")
T = TypeVar("T")


class Host:
    """A running host.

    `options` are for its command line. `user` is the machine's user that it runs as. Only a `warm`
    host has a template process. Tests without agents would wait until it has imported everything.
    """

    def __init__(
        self, home: Path, *options: str, isolation: str = ISOLATION, user: int | None = None, warm: bool = False
    ) -> None:
        self.home = home
        self._options = ("--isolation", isolation, "--warm-agents" if warm else "--no-warm-agents", *options)
        self._as_user = [] if user is None else [sys.executable, str(Path(__file__).with_name("as_user.py")), str(user)]
        self.start()

    def start(self) -> None:
        self._log = (self.home.parent / f"{self.home.name}.log").open("ab")
        self._process = subprocess.Popen(
            [*self._as_user, sys.executable, "-m", "workers.sandboxes.host", "--home", str(self.home), *self._options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"E2B_API_KEY": API_KEY, "PATH": os.environ["PATH"], "HOST_SECRET": "the host's own"},
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            self.stop(signal.SIGKILL)
            raise AssertionError((self.home.parent / f"{self.home.name}.log").read_text())

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_warm(self, starts: int = 1, seconds: float = 180) -> bool:
        """Wait until the template process has been ready `starts` times.

        Return False if this machine or this user cannot fork sandboxes.
        """
        log, end = self.home.parent / f"{self.home.name}.log", time.monotonic() + seconds
        while (text := log.read_text()).count("the template process is ready") < starts:
            if "agents by command" in text:
                return False
            assert time.monotonic() < end, text
            time.sleep(0.1)
        return True

    @property
    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/health").json()
        return answer

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._process.wait(20)
        self._process.stdout.close()  # type: ignore[union-attr]
        self._log.close()

    @property
    def options(self) -> dict[str, Any]:
        """The options that direct the plain SDK to this host."""
        return {"api_key": API_KEY, "api_url": self.url, "sandbox_url": self.url, "http_version": "1.1"}

    def client(self, url: str | None = None) -> SandboxClient:
        settings = Settings(
            database_url="postgresql+psycopg://unused",
            redis_url="redis://unused",
            secret_key="x" * 32,
            models_dir=Path("unused"),
            e2b_api_key=API_KEY,
            e2b_api_url=url or self.url,
            e2b_sandbox_url=url or self.url,
        )
        return SandboxClient(settings)


def spec(key: str, template: str = "python", timeout_s: int = 300, **metadata: str) -> SandboxSpec:
    return SandboxSpec(key, template, timeout_s, metadata)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a new event loop, as each step of a Celery worker does."""
    return asyncio.run(work)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def resident_bytes(pid: int) -> int:
    """Return the memory of a process, or 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


def descendants(pid: int) -> list[int]:
    """Return the machine's ids of all processes below `pid`."""
    pids = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            pids += [child, *descendants(child)]
    return pids


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Freeze processes inside the block. They may end meanwhile."""
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def processes_marked(mark: str) -> list[int]:
    """Return the ids of the machine's processes that have `mark` on their command line."""
    pids = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command_line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in command_line and int(folder.name) != os.getpid():
                pids.append(int(folder.name))
    return pids
