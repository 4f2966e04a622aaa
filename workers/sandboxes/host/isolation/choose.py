"""Which isolation this machine allows, found out by trying, and how a sandbox is started with it."""

import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workers.sandboxes.host.isolation.bubblewrap import bubblewrap_command
from workers.sandboxes.host.isolation.plan import AGENT_ROOT, ENVD_ROOT, Mount, make_root, make_shared, plan_mounts, search_path

Kind = Literal["bubblewrap", "namespaces", "none"]
WARNING = (
    "sandboxes are plain processes on this machine: nothing keeps the code in them from the host's files, network and memory"
)

_LOG = logging.getLogger(__name__)
_LAUNCHER = Path(__file__).with_name("launcher.py")
_PACKAGES = Path(__file__).parents[4]
_PROBE_S = 20.0
# Above the ranges that distributions give to users' and systemd's containers.
_FIRST_OWNER = 0x70000000


@dataclass(frozen=True, slots=True)
class Isolation:
    """How this host isolates; the folder `shared` holds what all sandboxes see."""

    kind: Kind
    shared: Path

    @property
    def isolated(self) -> bool:
        return self.kind != "none"

    def owner(self, number: int) -> int | None:
        """The machine's user that sandbox `number` runs as; None for the host's own."""
        return _FIRST_OWNER + number if self.isolated and os.getuid() == 0 else None

    @property
    def own_users(self) -> bool:
        """Whether the kernel counts a sandbox's processes apart: its own user, or (since 5.14) its own user namespace."""
        version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
        return self.isolated and (os.getuid() == 0 or version >= (5, 14))

    def root_inside(self, root: Path) -> str:
        return "/" if self.isolated else str(root)

    @property
    def python_path(self) -> str:
        return AGENT_ROOT if self.isolated else str(_PACKAGES)

    def command(
        self,
        root: Path,
        gateway: Path,
        owner: int | None,
        shm_bytes: int,
        cgroups: dict[str, str],
        join: Sequence[str],
        run: Sequence[str],
    ) -> list[str]:
        """The command that starts `run` (a Python program's arguments) as first process of a sandbox. The folder `gateway`
        holds its socket to its peers."""
        environment = {
            "PATH": search_path(),
            "LANG": "C.UTF-8",
            "PYTHONPATH": ENVD_ROOT if self.isolated else str(Path(__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, *run]
        namespaces = None
        if self.isolated:
            mounts = plan_mounts(root, self.shared, gateway, shm_bytes, cgroups)
            if self.kind == "bubblewrap":
                command = bubblewrap_command(shutil.which("bwrap") or "bwrap", mounts, command, environment)
            else:
                namespaces = {"owner": owner, "scratch": str(self.shared / "mnt"), "mounts": _as_json(mounts)}
        plan = {
            "parent": os.getpid(),
            "isolated": self.isolated,
            "cgroups": list(join),
            "namespaces": namespaces,
            "command": command,
            "environment": environment,
        }
        return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(plan)]


def _as_json(mounts: Sequence[Mount]) -> list[dict[str, object]]:
    return [mount.as_json() for mount in mounts]


def choose_isolation(wanted: str, shared: Path) -> Isolation:
    """The strongest isolation that works here, or the one `wanted` by name. Raise RuntimeError if that one does not work."""
    make_shared(shared)
    (shared / "mnt").mkdir(exist_ok=True)
    for kind in _candidates() if wanted == "auto" else [wanted]:
        isolation = Isolation(kind, shared)  # type: ignore[arg-type]
        problem = _probe(isolation)
        if problem is None:
            return isolation
        _LOG.info("no isolation by %s: %s", kind, problem)
    raise RuntimeError(f"this machine does not allow isolation by {wanted}: {problem}")


def _candidates() -> list[Kind]:
    if sys.platform != "linux":
        return ["none"]
    if os.getuid() == 0 or shutil.which("bwrap") is None:
        return ["namespaces", "none"]
    return ["bubblewrap", "namespaces", "none"]


def _probe(isolation: Isolation) -> str | None:
    """Start a Python that does nothing, as a sandbox would be started; None if that works."""
    root = isolation.shared / "probe"
    owner = isolation.owner(0)
    make_root(root, owner)
    command = isolation.command(root, isolation.shared / "etc", owner, 1 << 20, {}, [], ["-c", "import encodings"])
    try:
        done = subprocess.run(command, env={}, capture_output=True, timeout=_PROBE_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "no answer"
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if done.returncode:
        return done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    return None
