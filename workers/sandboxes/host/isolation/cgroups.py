"""Limits on memory and processes, and CPU shares, by cgroups of version 1 or 2.

They exist only where the host may create cgroups.
"""

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)
_ROOT = Path("/sys/fs/cgroup")
_REMOVE_TRIES = 50
# All sandboxes together weigh as much as two busy processes of the control plane.
# Each sandbox weighs the same.
_CPU_SHARES = 2


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The parent folders of our groups, by controller. In version 2 all are the same folder.

    `cpu` is None where that controller is not available.
    """

    memory: Path
    pids: Path
    cpu: Path | None
    version: int

    @property
    def _parents(self) -> list[Path]:
        return sorted({self.memory, self.pids, *([self.cpu] if self.cpu else [])})

    def create(self, name: str, memory_bytes: int, processes: int) -> list[str]:
        """Create a sandbox's groups with their limits. Return the folders to join."""
        groups = [parent / name for parent in self._parents]
        for group in groups:
            group.mkdir(exist_ok=True)
        memory = self.memory / name
        limit = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        (memory / limit).write_text(str(memory_bytes))
        swap = memory / ("memory.swap.max" if self.version == 2 else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if self.version == 2 else str(memory_bytes))
        (self.pids / name / "pids.max").write_text(str(processes))
        return list(map(str, groups))

    def visible_inside(self, name: str) -> dict[str, str]:
        """Map the path where a sandbox's programs read their limits to the folder mounted there."""
        target = "/sys/fs/cgroup" if self.version == 2 else "/sys/fs/cgroup/memory"
        return {target: str(self.memory / name)}

    def hits(self, name: str) -> dict[str, int]:
        """Return how often the kernel enforced each limit since the groups were created."""
        memory = "memory.events" if self.version == 2 else "memory.oom_control"
        return {
            "memory": _count(self.memory / name / memory, "oom_kill"),
            "processes": _count(self.pids / name / "pids.events", "max"),
        }

    def remove(self, name: str) -> None:
        """Remove a sandbox's groups. The kernel frees a group shortly after its last process."""
        for parent in self._parents:
            for _ in range(_REMOVE_TRIES):
                try:
                    (parent / name).rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
                else:
                    break

    def remove_all(self) -> None:
        for folder in self._parents:
            for group in folder.iterdir():
                if group.is_dir():
                    self.remove(group.name)

    def close(self) -> None:
        """Remove all groups and their parents."""
        self.remove_all()
        for folder in self._parents:
            with contextlib.suppress(OSError):
                folder.rmdir()


def find_cgroups(name: str) -> Cgroups | None:
    """Create `name` as the parent of our groups. Return None where that is not allowed."""
    cgroups = _version_2(name) if (_ROOT / "cgroup.controllers").exists() else _version_1(name)
    if cgroups is not None:
        try:
            cgroups.create("probe", 64 << 20, 16)
        except OSError as error:
            _LOG.info("no cgroups: %s", error.strerror)
            return None
        cgroups.remove_all()
    return cgroups


def _count(file: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            key, _, number = line.partition(" ")
            if key == name:
                return int(number)
    return 0


def _own_paths() -> dict[str, str]:
    """Return the path of this process's group, by controller."""
    paths = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _version_1(name: str) -> Cgroups | None:
    memory, pids, cpu = (_parent(controller, name) for controller in ("memory", "pids", "cpu"))
    if memory is None or pids is None:
        return None
    if cpu is not None:
        (cpu / "cpu.shares").write_text(str(1024 * _CPU_SHARES))
    return Cgroups(memory, pids, cpu, 1)


def _parent(controller: str, name: str) -> Path | None:
    mounted = _ROOT / controller
    inside = mounted / _own_paths().get(controller, "/").lstrip("/")
    parent = (inside if inside.is_dir() else mounted) / name
    try:
        parent.mkdir(exist_ok=True)
    except OSError:
        return None
    return parent


def _version_2(name: str) -> Cgroups | None:
    """Create the parent below the root or our own group, where controllers can be delegated."""
    for above in (_ROOT, _ROOT / _own_paths().get("", "/").lstrip("/")):
        parent = above / name
        try:
            for folder in (above, parent):
                folder.mkdir(exist_ok=True)
                (folder / "cgroup.subtree_control").write_text("+memory +pids")
        except OSError:
            with contextlib.suppress(OSError):
                parent.rmdir()
            continue
        return Cgroups(parent, parent, _cpu_version_2(above, parent), 2)
    return None


def _cpu_version_2(above: Path, parent: Path) -> Path | None:
    try:
        for folder in (above, parent):
            (folder / "cgroup.subtree_control").write_text("+cpu")
        (parent / "cpu.weight").write_text(str(100 * _CPU_SHARES))
    except OSError:
        return None
    return parent
