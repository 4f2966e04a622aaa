"""Real sandbox hosts for tests: the program itself, in a process of its own, on a free port."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from api.domain.sandboxes import SandboxSpec
from api.settings import Settings
from workers.sandboxes.client import SandboxClient

API_KEY = "test-key-of-the-sandbox-host"
ISOLATION = os.environ.get("TEST_SANDBOX_ISOLATION", "auto")
T = TypeVar("T")


class Host:
    """A running host. `options` are those of its command line; `user` is the machine's user that it runs as."""

    def __init__(self, home: Path, *options: str, isolation: str = ISOLATION, user: int | None = None) -> None:
        self.home = home
        self._options = ("--isolation", isolation, *options)
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
        """What points the plain SDK to this host."""
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
    """Each call has an event loop of its own, as the steps of a Celery worker do."""
    return asyncio.run(work)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    running = Host(tmp_path_factory.mktemp("host") / "home", "--memory-mb", "512", "--processes", "128", "--disk-mb", "128")
    yield running
    running.stop()


def resident_bytes(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


def descendants(pid: int) -> list[int]:
    """All processes below one, as the machine numbers them."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes frozen for a while; one that ends meanwhile is fine."""
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
    """Pids of the machine's processes that have `mark` on their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in words and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found
