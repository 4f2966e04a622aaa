"""Run a sandbox with bubblewrap instead of our own launcher.

Only ordinary users may use it: run by root, bubblewrap would map the sandbox's user to root.
"""

from collections.abc import Iterable, Mapping, Sequence

from workers.sandboxes.host.isolation.plan import Mount

_BASE = [
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--disable-userns", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
    *("--as-pid-1", "--die-with-parent", "--clearenv"),
]


def bubblewrap_command(
    program: str, mounts: Iterable[Mount], command: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    arguments = [program, *_BASE]
    for mount in mounts:
        arguments += _mount_arguments(mount)
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--", *command]


def _mount_arguments(mount: Mount) -> list[str]:
    match mount.kind:
        case "read":
            return ["--ro-bind", mount.source, mount.target]
        case "write":
            return ["--bind", mount.source, mount.target]
        case "link":
            return ["--symlink", mount.source, mount.target]
        case "tmpfs":
            return ["--perms", "1777", "--size", str(mount.size), "--tmpfs", mount.target]
        case "proc":
            return ["--proc", mount.target]
        case "dev":
            return ["--dev", mount.target]
        case "machine":
            raise AssertionError("no sandbox sees the machine's files")
