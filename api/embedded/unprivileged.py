"""Postgres refuses to run as root: who runs it then, and how that user reaches its files."""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from api.embedded.errors import StackError
from api.embedded.process import User
from api.embedded.supervisor import Reporter

_SYSTEM_USER = "flow-nexus-pg"


def owner_for(data: Path) -> User | None:
    """Whom Postgres runs as on this data folder; None for whoever calls, who is not root."""
    if os.getuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return User(data.stat().st_uid, data.stat().st_gid)
    # A system user of its own, or where none can be made, nobody.
    for name in (_SYSTEM_USER, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            if name != _SYSTEM_USER or not _made(name):
                continue
            entry = pwd.getpwnam(name)
        return User(entry.pw_uid, entry.pw_gid)
    raise StackError("Postgres cannot run as root, and there is no user nobody")


def let_through(path: Path, report: Reporter) -> None:
    """Let other users pass the folders above their own; they cannot list them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            report(f"postgres   may now pass through {folder} (chmod o+x), as it cannot run as root")


def _made(name: str) -> bool:
    useradd = shutil.which("useradd")
    if useradd is None:
        return False
    argv = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    return subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S603 - our own arguments
