"""Start a sandbox's first process: `python -I -S launcher.py PLAN`, where PLAN is JSON.

It is a program of its own that imports only the standard library, so it starts fast. It joins the
sandbox's cgroups and then becomes the command. If the plan has `namespaces`, it first enters new
namespaces and builds the sandbox's file tree.

With isolation it dies with the host, and the kernel ends the sandbox's processes with it. Without
isolation, envd notices that the host is gone and ends them.

The template process of warm sandboxes imports this module. For each sandbox it forks, and the
child calls `enter` instead of becoming a command. See `template.py`.

Root and an ordinary user need a different order. Root mounts with its own rights. It gives them up
afterwards, by entering a user namespace whose one user is an unprivileged user of the machine. An
ordinary user enters the user namespace first, because that gives the right to mount.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Literal, NoReturn, TypedDict

UID = 1000

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_NAMESPACES = _NEWNS | _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWNET
_TEMPLATE_NAMESPACES = _NEWNS | _NEWUTS | _NEWIPC | _NEWNET
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SYS_MOUNT_SETATTR = 442
_CAPABILITY_VERSION = 0x20080522
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}

_libc = ctypes.CDLL(None, use_errno=True)
MountKind = Literal["read", "write", "link", "tmpfs", "proc", "dev", "machine"]


class MountPlan(TypedDict):
    """One entry of the file tree. `size` is in bytes."""

    kind: MountKind
    target: str
    source: str
    size: int


class NamespacePlan(TypedDict):
    """`owner` is the machine's user that the sandbox runs as, or None for the host's own user.

    `scratch` is the folder in which the file tree is built.
    """

    owner: int | None
    scratch: str
    mounts: list[MountPlan]


class LaunchPlan(TypedDict):
    """The program's first argument. `parent` is the host's process id. `cgroups` are folders.

    `template` is the file tree of a template process. That process keeps its rights.
    """

    parent: int
    isolated: bool
    cgroups: list[str]
    namespaces: NamespacePlan | None
    template: NamespacePlan | None
    command: list[str]
    environment: dict[str, str]


def main() -> NoReturn:
    plan: LaunchPlan = json.loads(sys.argv[1])
    if plan["isolated"]:
        _die_with_parent()
        if os.getppid() != plan["parent"]:
            sys.exit("the host is gone")
    join_cgroups(plan["cgroups"])
    if plan["namespaces"]:
        enter(plan["namespaces"])
    elif plan["template"]:
        _unshare(_TEMPLATE_NAMESPACES)
        _build_tree(plan["template"])
    os.execve(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606


def join_cgroups(folders: list[str]) -> None:
    for folder in folders:
        Path(folder, "cgroup.procs").write_text(str(os.getpid()))


def enter(plan: NamespacePlan, host: socket.socket | None = None) -> None:
    """Enter the namespaces. Return only in their first process, which has no rights left.

    `host` is a connection to the host. If it closes, the first process ends.
    """
    root = os.getuid() == 0
    if root:
        os.setgroups([])
    else:
        uid, gid = os.getuid(), os.getgid()
        _unshare(_NEWUSER)
        _map_user(os.getpid(), uid, gid)
    _unshare(_NEWPID)
    outside, inside = socket.socketpair()
    child = os.fork()
    if child:
        inside.close()
        _wait_outside(child, plan["owner"] if root else None, outside, host)
    outside.close()
    if host is not None:
        host.close()
    _die_with_parent()
    _unshare(_NAMESPACES)
    _build_tree(plan)
    _bring_up_loopback()
    socket.sethostname("sandbox")
    if root:
        _unshare(_NEWUSER)
        inside.send(b".")
        if inside.recv(1) != b".":
            sys.exit("no user mapping")
    inside.close()
    _give_up_rights()


def _wait_outside(child: int, owner: int | None, inside: socket.socket, host: socket.socket | None) -> NoReturn:
    """Wait for the child, as the process that stays outside.

    For root it maps the user first. When the host ends, it ends and takes the child with it.
    """
    if owner is not None and inside.recv(1) == b".":
        _map_user(child, owner, owner)
        inside.send(b".")
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    inside.close()
    if host is not None:
        ends = select.poll()
        ends.register(os.pidfd_open(child), select.POLLIN)
        ends.register(host, select.POLLIN)
        ends.poll()
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _map_user(pid: int, uid: int, gid: int) -> None:
    folder = Path(f"/proc/{pid}")
    (folder / "setgroups").write_text("deny")
    (folder / "uid_map").write_text(f"{UID} {uid} 1")
    (folder / "gid_map").write_text(f"{UID} {gid} 1")


def _build_tree(plan: NamespacePlan) -> None:
    scratch = Path(plan["scratch"])
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", scratch, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for mount in plan["mounts"]:
        place = Path(str(scratch) + mount["target"])
        # The sandbox may have put links below its own folders. Here they still lead out of it.
        if place.is_symlink() or not place.parent.resolve().is_relative_to(scratch.resolve()):
            sys.exit(f"a link is in the place of {mount['target']}")
        _mount_entry(mount, place)
    os.chdir(scratch)
    # This stacks the old root on the new one, so it needs no folder. Then it is unmounted.
    if _libc.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."):
        _fail("pivot_root")
    if _libc.umount2(b".", _MNT_DETACH):
        _fail("umount")
    os.chdir("/")
    # Both are in memory that no limit counts, so they become read-only.
    for folder in ("/dev", "/"):
        _set_attributes(Path(folder), _ATTR_RDONLY, recursive=False)


def _mount_entry(mount: MountPlan, place: Path) -> None:
    kind, source = mount["kind"], mount["source"]
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        place.symlink_to(source)
        return
    if not place.exists():
        if Path(source).is_file():
            place.touch()
        else:
            place.mkdir()
    if kind == "read":
        _mount(source, place, None, _MS_BIND | _MS_REC)
        _set_attributes(place, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, recursive=True)
    elif kind == "machine":
        _mount(source, place, None, _MS_BIND | _MS_REC)
    elif kind == "write":
        _mount(source, place, None, _MS_BIND)
        _set_attributes(place, _ATTR_NOSUID | _ATTR_NODEV, recursive=True)
    elif kind == "tmpfs":
        _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={mount['size']},mode=1777")
    elif kind == "proc":
        _mount("proc", place, "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    elif kind == "dev":
        _make_devices(place)


def _make_devices(place: Path) -> None:
    _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NOEXEC, "size=64k,mode=755")
    for name in _DEVICES:
        (place / name).touch()
        _mount(f"/dev/{name}", place / name, None, _MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        (place / name).symlink_to(target)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _give_up_rights() -> None:
    """Become the sandbox's one user, for good.

    The process can regain no capability and can enter no further user namespace.
    """
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.setresgid(UID, UID, UID)
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    os.setresuid(UID, UID, UID)
    # A change of program would clear these. A forked first process keeps its program.
    header, none = struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24)
    if _libc.capset(header, none):
        _fail("capset")
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        _fail("no_new_privs")
    # A change of user clears the death signal.
    _die_with_parent()


def _die_with_parent() -> None:
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        _fail("pdeathsig")


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        _fail("unshare")


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    arguments = [text.encode() if text is not None else None for text in (source, str(target), kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None):
        _fail(f"mount {kind or 'bind'} on {target}")


def _set_attributes(target: Path, attributes: int, *, recursive: bool) -> None:
    """Call mount_setattr(2). Unlike a remount, it keeps the flags that the mount already has.

    A user may not remove those flags.
    """
    structure = struct.pack("QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    if _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, str(target).encode(), flags, structure, ctypes.c_size_t(len(structure))):
        _fail(f"mount attributes of {target}")


def _fail(operation: str) -> NoReturn:
    error = ctypes.get_errno()
    raise OSError(error, f"{operation}: {os.strerror(error)}")


if __name__ == "__main__":
    main()
