"""What the attacks share: a host with an attacker's sandbox and a neighbour's."""

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

# No machine has this user, so it may read only the files that everyone may read.
ORDINARY = 64_321
LIMITS = ("--memory-mb", "512", "--processes", "128", "--disk-mb", "128", "--files", "10000")


@dataclass(frozen=True, slots=True)
class AttackSetup:
    """`attacker` and `neighbour` are sandboxes of one host. `user` is the host's user."""

    host: Host
    client: SandboxClient
    attacker: str
    neighbour: str
    user: str

    def execute(self, code: str, language: str = "python", timeout_s: float = 30, max_output: int = 100_000) -> CommandResult:
        return run(self.client.execute(self.attacker, code, language=language, timeout_s=timeout_s, max_output=max_output))

    def output_of(self, code: str, language: str = "python") -> str:
        """Return the output of code that reaches no limit."""
        result = self.execute(code, language)
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
def attack_setup(user: str, *limits: str) -> Iterator[AttackSetup]:
    """Start a host and two sandboxes. Skip with the reason if this machine lacks something.

    `own`: the host runs as this user, with the isolation that this machine offers. `ordinary`:
    if this user is root, the host runs as an ordinary user. `ordinary-namespaces`: the same, but
    without bubblewrap.
    """
    isolation = "namespaces" if user == "ordinary-namespaces" else ISOLATION
    host_user = None
    if user != "own":
        if os.getuid() != 0:
            pytest.skip("these tests run as an ordinary user already")
        if user == "ordinary-namespaces" and shutil.which("bwrap") is None:
            pytest.skip("without bubblewrap the ordinary user's isolation is by namespaces anyway")
        if user == "ordinary-namespaces" and "HOSTILE" not in os.environ:
            pytest.skip("make hostile tries both bubblewrap and namespaces")
        host_user = ORDINARY
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        if host_user is not None:
            os.chown(folder, host_user, host_user)
            os.chown(home, host_user, host_user)
        try:
            host = Host(home, *(limits or LIMITS), isolation=isolation, user=host_user, warm=True)
        except (AssertionError, PermissionError) as error:
            pytest.skip(f"no host runs as {user} here (is this Python open to other users?): {error}")
        try:
            if host.health["isolation"] == "none":
                pytest.skip("this machine allows no isolation, for example no namespaces of ordinary users")
            client = host.client()
            attacker, neighbour = (run(client.create(spec(uuid.uuid4().hex, timeout_s=1500))).sandbox_id for _ in range(2))
            yield AttackSetup(host, client, attacker, neighbour, user)
        finally:
            host.stop()
