"""Starts a sandbox's first process. Runs as a program of its own, with the standard library only, so that it is quick:
`python -I -S launcher.py PLAN`, where PLAN is JSON.

Isolated, it dies with the host and the kernel takes the sandbox's processes along; else envd sees the host go and ends them.
It joins the sandbox's cgroups, and then becomes the command; with `namespaces` in the plan it first
enters fresh ones and builds the sandbox's file tree. The order is what differs between root and an ordinary user. Root
mounts with its own rights and gives them up afterwards by entering a user namespace whose one user is an unprivileged
user of the machine. An ordinary user enters the user namespace first, since that is where the right to mount comes from.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

UID = 1000

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_NAMESPACES = _NEWNS | _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWNET
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    if plan["isolated"]:
        _die_with_parent()
        if os.getppid() != plan["parent"]:
            sys.exit("the host is gone")
    for folder in plan["cgroups"]:
        Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    if plan["namespaces"]:
        _enter(plan["namespaces"])
    os.execve(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606


def _enter(wanted: dict[str, Any]) -> None:
    """Return only in the first process of the new namespaces, with no rights left."""
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
        _keep(child, wanted["owner"] if root else None, outside)
    outside.close()
    _die_with_parent()
    _unshare(_NAMESPACES)
    _build_tree(wanted)
    _bring_up_loopback()
    socket.sethostname("sandbox")
    if root:
        _unshare(_NEWUSER)
        inside.send(b".")
        if inside.recv(1) != b".":
            sys.exit("no user mapping")
    inside.close()
    _give_up_rights()


def _keep(child: int, owner: int | None, inside: socket.socket) -> NoReturn:
    """The process left outside: maps the user for root, then lives only to die with the host and take the child along."""
    if owner is not None and inside.recv(1) == b".":
        _map_user(child, owner, owner)
        inside.send(b".")
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _map_user(pid: int, uid: int, gid: int) -> None:
    folder = Path(f"/proc/{pid}")
    (folder / "setgroups").write_text("deny")
    (folder / "uid_map").write_text(f"{UID} {uid} 1")
    (folder / "gid_map").write_text(f"{UID} {gid} 1")


def _build_tree(wanted: dict[str, Any]) -> None:
    scratch = Path(wanted["scratch"])
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", scratch, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for mount in wanted["mounts"]:
        place = Path(str(scratch) + mount["target"])
        # Below its own folders the sandbox may have put links, which here would still lead out of it.
        if place.is_symlink() or not place.parent.resolve().is_relative_to(scratch.resolve()):
            sys.exit(f"a link stands where {mount['target']} belongs")
        _make(mount, place)
    os.chdir(scratch)
    # Stacks the old root on the new one, and then lets it go: no folder for it is needed.
    if _libc.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."):
        _fail("pivot_root")
    if _libc.umount2(b".", _MNT_DETACH):
        _fail("umount")
    os.chdir("/")
    # Both are memory that no limit counts.
    for folder in ("/dev", "/"):
        _set_attributes(Path(folder), _ATTR_RDONLY, recursive=False)


def _make(mount: dict[str, Any], place: Path) -> None:
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
    """Become the sandbox's one user, for good: no capability can be had again, and no further user namespace entered."""
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.setresgid(UID, UID, UID)
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    os.setresuid(UID, UID, UID)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        _fail("no_new_privs")
    # A change of user clears it.
    _die_with_parent()


def _die_with_parent() -> None:
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        _fail("pdeathsig")


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        _fail("unshare")


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    words = [word.encode() if word is not None else None for word in (source, str(target), kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None):
        _fail(f"mount {kind or 'bind'} on {target}")


def _set_attributes(target: Path, attributes: int, *, recursive: bool) -> None:
    """mount_setattr(2): unlike a remount it adds to the flags that a mount already has, which a user may not take away."""
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    if _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, str(target).encode(), flags, wanted, ctypes.c_size_t(len(wanted))):
        _fail(f"mount attributes of {target}")


def _fail(what: str) -> NoReturn:
    error = ctypes.get_errno()
    raise OSError(error, f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    main()
