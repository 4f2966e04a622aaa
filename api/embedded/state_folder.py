"""The folder that holds a stack's state: its lock, its secrets and its ports."""

import fcntl
import json
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from api.embedded.errors import StackError, StackInterruptedError
from api.services import keys

# A Unix socket's path has at most 107 bytes on Linux and 103 on macOS.
# Postgres adds a file name of its own.
_LONGEST_SOCKET_FOLDER = 80
# Postgres and libpq split lists of folders at commas.
# URLs and shells give meaning to other characters.
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)
_ORPHANS_END_S = 20.0


@dataclass(frozen=True, slots=True)
class Secrets:
    """Created once per folder."""

    secret_key: str
    api_key: str
    sandbox_key: str
    redis_password: str


class StateFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @contextmanager
    def locked(self, interrupted: Callable[[], bool]) -> Iterator[int]:
        """Lock the folder and yield the descriptor of the lock.

        Child processes inherit the descriptor.
        So the folder stays locked until the last one has ended.

        Raises:
            StackError: Another stack runs on this folder, or the folder cannot be used.
            StackInterruptedError: `interrupted` returned true during the wait.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.subfolder("logs")
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise StackError(f"{self.path} cannot be used: {error.strerror}") from error
        with lock:
            deadline = time.monotonic() + _ORPHANS_END_S
            while not _try_lock(lock.fileno()):
                lock.seek(0)
                if _is_alive(lock.read()) or time.monotonic() > deadline:
                    raise StackError(f"a stack already runs on {self.path}")
                if interrupted():
                    raise StackInterruptedError
                time.sleep(0.1)  # The supervisor was killed. The kernel signals its services to end.
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield lock.fileno()

    def subfolder(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path

    def log_path(self, service: str) -> Path:
        return self.path / "logs" / f"{service}.log"

    @contextmanager
    def socket_folder(self) -> Iterator[Path]:
        """Yield an empty 0700 folder with a short path for Unix sockets. Remove it at the end."""
        mark = sha256(os.fsencode(self.path)).hexdigest()[:16]
        name = f"flow-nexus-{os.getuid()}-{mark}"
        candidates = (self.path / "sockets", Path(tempfile.gettempdir()) / name, Path("/tmp") / name)  # noqa: S108 - created with mode 0700
        path = next(
            folder for folder in candidates if _PLAIN.fullmatch(str(folder)) and len(str(folder)) <= _LONGEST_SOCKET_FOLDER
        )
        try:
            _remove(path)
            path.mkdir(mode=0o700)
        except OSError as error:
            raise StackError(f"{path} cannot be used for sockets: {error.strerror}") from error
        try:
            yield path
        finally:
            with suppress(OSError):
                _remove(path)

    def secrets(self) -> Secrets:
        path = self.path / "secrets"
        if not path.exists():
            self.make_secrets(secrets.token_urlsafe(48))
        return Secrets(**json.loads(path.read_text()))

    def make_secrets(self, secret_key: str) -> None:
        """Write new secrets with this secret key."""
        values = Secrets(
            secret_key=secret_key,
            api_key=keys.new_plaintext(),
            sandbox_key=f"e2b_{secrets.token_hex(20)}",
            redis_password=secrets.token_urlsafe(24),
        )
        self.write_private("secrets", json.dumps(asdict(values)))

    def write_private(self, name: str, text: str) -> Path:
        """Write a file that only its owner can read. A crash leaves the old file or the new one."""
        path, temporary = self.path / name, self.path / f".{name}.new"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return path

    def port(self, name: str) -> int:
        """Return a free loopback port: the same as last time if it is still free."""
        path = self.path / "ports.json"
        known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        if name not in known or listen_error("127.0.0.1", known[name]):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                known[name] = probe.getsockname()[1]
            self.write_private("ports.json", json.dumps(known))
        return known[name]


def listen_error(host: str, port: int) -> str | None:
    """Return why no process can listen on that address; None if one can."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ValueError:
        return True  # Locked and not yet written: another stack is starting.
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(folder: Path) -> None:
    """Remove a folder of sockets.

    Raises:
        OSError: The folder holds a subfolder or belongs to another user.
    """
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
