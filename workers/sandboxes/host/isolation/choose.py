"""Find out which isolation this machine allows, and start sandboxes with it."""

import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workers.sandboxes.host.envd.process_title import ROOM
from workers.sandboxes.host.envd.sandbox_paths import HOME, USER
from workers.sandboxes.host.isolation.bubblewrap import bubblewrap_command
from workers.sandboxes.host.isolation.fork_messages import ForkPlan
from workers.sandboxes.host.isolation.launcher import LaunchPlan, NamespacePlan
from workers.sandboxes.host.isolation.plan import (
    AGENT_ROOT,
    ENVD_ROOT,
    MACHINE_ROOT,
    Mount,
    make_root,
    make_shared,
    plan_mounts,
    plan_template_mounts,
    search_path,
)

IsolationKind = Literal["bubblewrap", "namespaces", "none"]
WARNING = "sandboxes are plain processes on this machine: code in them can reach the host's files, network and memory"

_LOG = logging.getLogger(__name__)
_LAUNCHER = Path(__file__).with_name("launcher.py")
_PACKAGES = Path(__file__).parents[4]
_TEMPLATE = "workers.sandboxes.host.isolation.template"
_AGENT_PROGRAM = "workers.agent.program"
_PROBE_S = 20.0
# Above the ranges that distributions use for the containers of users and of systemd.
_FIRST_OWNER = 0x70000000


@dataclass(frozen=True, slots=True)
class SandboxLaunch:
    """What differs between the starts of two sandboxes.

    `root` holds the sandbox's own folders. `gateway` is the folder with the socket to its peers.
    `owner` is the machine's user that it runs as, or None for the host's own user.
    """

    root: Path
    gateway: Path
    owner: int | None
    shm_bytes: int
    cgroups_inside: dict[str, str] = field(default_factory=dict)
    cgroups_to_join: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Isolation:
    """How this host isolates sandboxes. The folder `shared` holds files that all of them see."""

    kind: IsolationKind
    shared: Path

    @property
    def isolated(self) -> bool:
        return self.kind != "none"

    def owner(self, number: int) -> int | None:
        """Return the machine's user that sandbox `number` runs as, or None for the host's user."""
        return _FIRST_OWNER + number if self.isolated and os.getuid() == 0 else None

    @property
    def own_users(self) -> bool:
        """Whether the kernel counts a sandbox's processes separately.

        It does so for each user, and since 5.14 for each user namespace.
        """
        version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
        return self.isolated and (os.getuid() == 0 or version >= (5, 14))

    def root_inside(self, root: Path) -> str:
        return "/" if self.isolated else str(root)

    @property
    def python_path(self) -> str:
        return AGENT_ROOT if self.isolated else str(_PACKAGES)

    def command(self, launch: SandboxLaunch, arguments: Sequence[str]) -> list[str]:
        """Return the command that starts Python with `arguments` as a sandbox's first process."""
        environment = {
            "PATH": search_path(),
            "LANG": "C.UTF-8",
            "PYTHONPATH": ENVD_ROOT if self.isolated else str(Path(__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, *arguments]
        namespaces: NamespacePlan | None = None
        if self.isolated:
            mounts = self._mounts(launch)
            if self.kind == "bubblewrap":
                command = bubblewrap_command(shutil.which("bwrap") or "bwrap", mounts, command, environment)
            else:
                namespaces = self._namespaces(mounts, launch.owner)
        plan: LaunchPlan = {
            "parent": os.getpid(),
            "isolated": self.isolated,
            "cgroups": launch.cgroups_to_join,
            "namespaces": namespaces,
            "template": None,
            "command": command,
            "environment": environment,
        }
        return _launcher_command(plan)

    @property
    def can_fork(self) -> bool:
        """Whether sandboxes can be forked from a template process.

        bubblewrap becomes a command, so it cannot. For an ordinary user, the program file of a
        forked process could belong to the sandbox's user.
        """
        return self.kind == "namespaces" and os.getuid() == 0

    def template_command(self, control: int) -> list[str]:
        """Return the command that starts a template process.

        `control` is the descriptor of its socket to the host.
        """
        # Libraries compute paths from these when they are imported. They are those of a sandbox.
        environment = {
            "PATH": search_path(),
            "HOME": HOME,
            "USER": USER,
            "LOGNAME": USER,
            "LANG": "C.UTF-8",
            "TMPDIR": "/tmp",  # noqa: S108 (the sandbox's own)
            "PYTHONPATH": AGENT_ROOT,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        plan: LaunchPlan = {
            "parent": os.getpid(),
            "isolated": True,
            "cgroups": [],
            "namespaces": None,
            "template": self._namespaces(plan_template_mounts(self.shared), None),
            "command": [sys.executable, "-m", _TEMPLATE, str(control), _AGENT_PROGRAM, ROOM],
            "environment": environment,
        }
        return _launcher_command(plan)

    def fork_plan(self, launch: SandboxLaunch) -> ForkPlan:
        """Return what a forked child does to become the sandbox."""
        mounts = [mount.seen_from_template() for mount in self._mounts(launch)]
        namespaces = self._namespaces(mounts, launch.owner)
        return {
            "cgroups": [MACHINE_ROOT + folder for folder in launch.cgroups_to_join],
            "namespaces": {**namespaces, "scratch": MACHINE_ROOT + namespaces["scratch"]},
            "title": ["sandbox", str(launch.root)],
        }

    def _mounts(self, launch: SandboxLaunch) -> list[Mount]:
        return plan_mounts(launch.root, self.shared, launch.gateway, launch.shm_bytes, launch.cgroups_inside)

    def _namespaces(self, mounts: list[Mount], owner: int | None) -> NamespacePlan:
        return {"owner": owner, "scratch": str(self.shared / "mnt"), "mounts": [mount.as_json() for mount in mounts]}


def _launcher_command(plan: LaunchPlan) -> list[str]:
    return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(plan)]


def choose_isolation(requested: str, shared: Path) -> Isolation:
    """Return the requested isolation, or for `auto` the strongest one that works here.

    Raises:
        RuntimeError: the requested isolation does not work here.
    """
    make_shared(shared)
    (shared / "mnt").mkdir(exist_ok=True)
    for kind in _candidates() if requested == "auto" else [requested]:
        isolation = Isolation(kind, shared)  # type: ignore[arg-type]
        problem = _probe(isolation)
        if problem is None:
            return isolation
        _LOG.info("no isolation by %s: %s", kind, problem)
    raise RuntimeError(f"this machine does not allow isolation by {requested}: {problem}")


def _candidates() -> list[IsolationKind]:
    if sys.platform != "linux":
        return ["none"]
    if os.getuid() == 0 or shutil.which("bwrap") is None:
        return ["namespaces", "none"]
    return ["bubblewrap", "namespaces", "none"]


def _probe(isolation: Isolation) -> str | None:
    """Start a Python that does nothing, in the way a sandbox is started.

    Return None if that works, and otherwise the reason.
    """
    root = isolation.shared / "probe"
    owner = isolation.owner(0)
    make_root(root, owner)
    launch = SandboxLaunch(root, isolation.shared / "etc", owner, shm_bytes=1 << 20)
    command = isolation.command(launch, ["-c", "import encodings"])
    try:
        completed = subprocess.run(command, env={}, capture_output=True, timeout=_PROBE_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "no answer"
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if completed.returncode:
        return completed.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {completed.returncode}"
    return None
