"""What the attacks share: a host with an attacker's sandbox and its neighbours', and the machine that they run on."""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.domain.sandboxes import CommandResult, ResourceLimitHit
from tests.workers.sandboxes.hosting import ISOLATION, Host, run, spec
from workers.sandboxes.client import SandboxClient

# A user that no machine has: nothing but the files that all may read is open to it.
ORDINARY = 64_321
LIMITS = ("--memory-mb", "512", "--processes", "128", "--disk-mb", "128", "--files", "10000")


@dataclass(frozen=True, slots=True)
class Ground:
    """`attacker` and `neighbour` are sandboxes of one host; `user` is the one that the host runs as."""

    host: Host
    client: SandboxClient
    attacker: str
    neighbour: str
    user: str

    def code(self, code: str, language: str = "python", timeout_s: float = 30, max_output: int = 100_000) -> CommandResult:
        return run(self.client.execute(self.attacker, code, language=language, timeout_s=timeout_s, max_output=max_output))

    def attack(self, code: str, language: str = "python") -> str:
        """What an attack that runs into no limit prints."""
        result = self.code(code, language)
        assert result.limit is None, result
        return result.stdout + result.stderr

    def answers(self, sandbox: str) -> bool:
        return run(self.client.run(sandbox, "echo alive", timeout_s=20, max_output=100)).stdout == "alive\n"

    def everyone_answers(self) -> bool:
        return self.answers(self.neighbour) and self.answers(self.attacker) and self.host.health["status"] == "ok"

    def hits(self, sandbox: str | None = None) -> dict[str, ResourceLimitHit]:
        return {hit.limit: hit for hit in run(self.client.limit_hits(sandbox or self.attacker)) or []}

    def wait_for_hit(self, limit: str, seconds: float = 20) -> ResourceLimitHit:
        deadline = time.monotonic() + seconds
        while limit not in (hits := self.hits()):
            assert time.monotonic() < deadline, f"the status names {list(hits)}, not {limit}"
            time.sleep(0.1)
        return hits[limit]


@contextmanager
def ground(user: str, *limits: str) -> Iterator[Ground]:
    """Hosts of `own` run as we do, with the isolation that this machine offers; those of `ordinary` as another user when we
    are root; those of `ordinary-namespaces` so without bubblewrap. Skips, with the reason, what this machine does not have."""
    isolation = "namespaces" if user == "ordinary-namespaces" else ISOLATION
    other = None
    if user != "own":
        if os.getuid() != 0:
            pytest.skip("these tests run as an ordinary user already")
        if user == "ordinary-namespaces" and shutil.which("bwrap") is None:
            pytest.skip("without bubblewrap the ordinary user's isolation is by namespaces anyway")
        if user == "ordinary-namespaces" and "HOSTILE" not in os.environ:
            pytest.skip("make hostile tries bubblewrap and namespaces both")
        other = ORDINARY
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        if other is not None:
            os.chown(folder, other, other)
            os.chown(home, other, other)
        try:
            host = Host(home, *(limits or LIMITS), isolation=isolation, user=other)
        except (AssertionError, PermissionError) as error:
            pytest.skip(f"no host runs as {user} here (is this Python open to other users?): {error}")
        try:
            if host.health["isolation"] == "none":
                pytest.skip("this machine allows no isolation, namespaces of ordinary users say")
            client = host.client()
            attacker, neighbour = (run(client.create(spec(uuid.uuid4().hex, timeout_s=1500))).sandbox_id for _ in range(2))
            yield Ground(host, client, attacker, neighbour, user)
        finally:
            host.stop()
