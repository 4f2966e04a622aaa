"""The file tree of a sandbox: one list of mounts, for bubblewrap and for our own launcher."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from workers.sandboxes.host.envd.sandbox_paths import HOME
from workers.sandboxes.host.envd.usage_meter import WRITABLE
from workers.sandboxes.host.isolation.launcher import MountKind, MountPlan

AGENT_ROOT = "/opt/flow-nexus"
ENVD_ROOT = "/opt/envd"
GATEWAY_ROOT = "/opt/gateway"
MACHINE_ROOT = "/machine"
_TEMPLATE_BYTES = 1 << 20
_WORKERS = Path(__file__).parents[3]
_ENVD = Path(__file__).parents[1] / "envd"
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_FROM_ETC = ("/etc/alternatives", "/etc/ld.so.cache")
_ETC = {
    "passwd": f"user:x:1000:1000:user:{HOME}:/bin/bash\n",
    "group": "user:x:1000:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True, slots=True)
class Mount:
    """One entry of the file tree.

    `read` and `write` bind `source`. `link` is a symbolic link to it. `tmpfs` has `size` bytes.
    `machine` binds `source` with all that is mounted below it; only a template process has it.
    """

    kind: MountKind
    target: str
    source: str = ""
    size: int = 0

    def as_json(self) -> MountPlan:
        return {"kind": self.kind, "target": self.target, "source": self.source, "size": self.size}

    def seen_from_template(self) -> "Mount":
        """Return the same entry with the source's path as a template process sees it."""
        return replace(self, source=MACHINE_ROOT + self.source) if self.kind in ("read", "write") else self


def search_path() -> str:
    """Return PATH inside a sandbox: the programs of this Python, of node, and of the system."""
    folders = [str(Path(sys.executable).parent), *(str(folder / "bin") for folder in _node_prefix())]
    return ":".join([*folders, "/usr/local/bin", "/usr/bin", "/bin"])


def plan_mounts(root: Path, shared: Path, gateway: Path, shm_bytes: int, cgroups: dict[str, str]) -> list[Mount]:
    """Return the mounts in their order.

    `root` holds the sandbox's own folders. `cgroups` maps targets to sources.
    """
    return [
        Mount("read", "/usr", "/usr"),
        *_system(),
        Mount("read", "/etc", str(shared / "etc")),
        *(Mount("read", path, path) for path in _FROM_ETC if Path(path).exists()),
        Mount("proc", "/proc"),
        Mount("dev", "/dev"),
        Mount("tmpfs", "/dev/shm", size=shm_bytes),  # noqa: S108 (the sandbox's own)
        Mount("read", "/sys/devices/system/cpu", "/sys/devices/system/cpu"),
        *(Mount("read", target, source) for target, source in cgroups.items()),
        *(Mount("write", folder, str(root) + folder) for folder in WRITABLE),
        *(Mount("read", str(prefix), str(prefix)) for prefix in _prefixes()),
        Mount("read", f"{AGENT_ROOT}/workers/__init__.py", str(_WORKERS / "__init__.py")),
        Mount("read", f"{AGENT_ROOT}/workers/agent", str(_WORKERS / "agent")),
        Mount("read", f"{ENVD_ROOT}/envd", str(_ENVD)),
        Mount("read", GATEWAY_ROOT, str(gateway)),
    ]


def plan_template_mounts(shared: Path) -> list[Mount]:
    """Return the file tree of a template process.

    Code has the same paths there as in a sandbox, so a forked process finds its modules. The
    machine's own files are below MACHINE_ROOT, from where the forked processes mount them.
    """
    return [
        Mount("machine", MACHINE_ROOT, "/"),
        Mount("tmpfs", "/tmp", size=_TEMPLATE_BYTES),  # noqa: S108 (the template's own)
        Mount("tmpfs", "/home", size=_TEMPLATE_BYTES),
        Mount("read", "/usr", "/usr"),
        *_system(),
        Mount("read", "/etc", str(shared / "etc")),
        *(Mount("read", path, path) for path in _FROM_ETC if Path(path).exists()),
        Mount("proc", "/proc"),
        Mount("dev", "/dev"),
        Mount("read", "/sys/devices/system/cpu", "/sys/devices/system/cpu"),
        *(Mount("read", str(prefix), str(prefix)) for prefix in _prefixes()),
        Mount("read", f"{AGENT_ROOT}/workers", str(_WORKERS)),
    ]


def make_shared(shared: Path) -> None:
    """Write the small /etc that every sandbox sees.

    From the machine's own /etc it has only the files that programs need to find libraries.
    """
    etc = shared / "etc"
    shutil.rmtree(etc, ignore_errors=True)
    etc.mkdir(parents=True)
    for name, text in _ETC.items():
        (etc / name).write_text(text)
        (etc / name).chmod(0o644)
    for path in map(Path, _FROM_ETC):
        target = etc / path.name
        if path.is_dir():
            target.mkdir()
        elif path.exists():
            target.touch(0o644)
    etc.chmod(0o755)


def make_root(root: Path, owner: int | None) -> None:
    """Create a sandbox's own folders. They belong to `owner` if that is another user than ours.

    Nothing below them is touched from outside, because the sandbox may have put a link there.
    """
    for folder in WRITABLE:
        path = Path(str(root) + folder)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o1777 if folder == "/tmp" else 0o755)  # noqa: S108 (the sandbox's own)
        if owner is not None:
            os.chown(path, owner, owner)


def _system() -> Iterator[Mount]:
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            yield Mount("link", str(path), str(path.readlink()))
        elif path.is_dir():
            yield Mount("read", str(path), str(path))


def _prefixes() -> list[Path]:
    """Return the folders outside /usr that hold Python and node, outer folders first."""
    prefixes = {Path(sys.base_prefix).resolve(), Path(sys.prefix), *_node_prefix()}
    prefixes |= {Path(sys.base_prefix)}
    return sorted(prefix for prefix in prefixes if not prefix.is_relative_to("/usr"))


def _node_prefix() -> list[Path]:
    node = shutil.which("node")
    if node is None:
        return []
    real = Path(node).resolve()
    return [real.parent.parent] if real.parent.name == "bin" and not real.is_relative_to("/usr") else []
