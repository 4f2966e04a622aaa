"""Memory and process limits by cgroups, version 1 or 2, where the host may make some."""

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)
_ROOT = Path("/sys/fs/cgroup")
_REMOVE_TRIES = 50


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Parents of our groups, by controller; both are the same folder in version 2."""

    memory: Path
    pids: Path
    version: int

    def create(self, name: str, memory_bytes: int, processes: int) -> list[str]:
        """Make a sandbox's groups with their limits; return the folders to join."""
        groups = [self.memory / name, self.pids / name]
        for group in groups:
            group.mkdir(exist_ok=True)
        limit = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        (groups[0] / limit).write_text(str(memory_bytes))
        swap = groups[0] / ("memory.swap.max" if self.version == 2 else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if self.version == 2 else str(memory_bytes))
        (groups[1] / "pids.max").write_text(str(processes))
        return sorted({str(group) for group in groups})

    def seen_inside(self, name: str) -> dict[str, str]:
        """Where a sandbox's programs look for their limits, and the folder to show there."""
        target = "/sys/fs/cgroup" if self.version == 2 else "/sys/fs/cgroup/memory"
        return {target: str(self.memory / name)}

    def remove(self, name: str) -> None:
        """Remove a sandbox's groups. The kernel frees a group shortly after its last process."""
        for group in {self.memory / name, self.pids / name}:
            for _ in range(_REMOVE_TRIES):
                try:
                    group.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
                else:
                    break

    def remove_all(self) -> None:
        for folder in {self.memory, self.pids}:
            for group in folder.iterdir():
                if group.is_dir():
                    self.remove(group.name)

    def close(self) -> None:
        """Remove all groups and their parents."""
        self.remove_all()
        for folder in {self.memory, self.pids}:
            with contextlib.suppress(OSError):
                folder.rmdir()


def find_cgroups(name: str) -> Cgroups | None:
    """Make `name` as parent of our groups, or return None where we may not."""
    found = _version_2(name) if (_ROOT / "cgroup.controllers").exists() else _version_1(name)
    if found is not None:
        try:
            found.create("probe", 64 << 20, 16)
        except OSError as error:
            _LOG.info("no cgroups: %s", error.strerror)
            return None
        found.remove_all()
    return found


def _own_paths() -> dict[str, str]:
    """This process's group, by controller."""
    paths = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _version_1(name: str) -> Cgroups | None:
    own = _own_paths()
    parents = []
    for controller in ("memory", "pids"):
        mounted = _ROOT / controller
        inside = mounted / own.get(controller, "/").lstrip("/")
        parent = (inside if inside.is_dir() else mounted) / name
        try:
            parent.mkdir(exist_ok=True)
        except OSError:
            return None
        parents.append(parent)
    return Cgroups(parents[0], parents[1], 1)


def _version_2(name: str) -> Cgroups | None:
    """Below the root or our own group, wherever controllers can be handed down."""
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
        return Cgroups(parent, parent, 2)
    return None
