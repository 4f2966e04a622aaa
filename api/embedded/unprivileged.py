"""Choose the user that runs Postgres, which refuses to run as root, and open its folders."""

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
    """Return the user that runs Postgres on this data folder; None means the calling user.

    Raises:
        StackError: The caller is root, and no other user exists or can be created.
    """
    if os.getuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return User(data.stat().st_uid, data.stat().st_gid)
    # Prefer a system user of its own. Use nobody if that user cannot be created.
    for name in (_SYSTEM_USER, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            if name != _SYSTEM_USER or not _create_user(name):
                continue
            entry = pwd.getpwnam(name)
        return User(entry.pw_uid, entry.pw_gid)
    raise StackError("Postgres cannot run as root, and there is no user nobody")


def allow_entry(path: Path, report: Reporter) -> None:
    """Let other users enter the folders above `path`. They still cannot list them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            report(f"postgres   can now enter {folder} (chmod o+x), because it cannot run as root")


def _create_user(name: str) -> bool:
    useradd = shutil.which("useradd")
    if useradd is None:
        return False
    argv = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    return subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S603 - the arguments are constants
