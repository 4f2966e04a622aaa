"""The same plan in bubblewrap's words. For ordinary users: a root's bubblewrap would map the sandbox's user to root."""

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
    words = [program, *_BASE]
    for mount in mounts:
        words += _words(mount)
    for name, value in environment.items():
        words += ["--setenv", name, value]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--", *command]


def _words(mount: Mount) -> list[str]:
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
