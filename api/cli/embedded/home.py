"""The folder that holds a stack's state: who may use it now, its secrets, and the ports it had."""

import fcntl
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from api.cli.embedded.errors import StackError

# A Unix socket's path has at most 107 bytes on Linux and 103 on macOS; Postgres and Redis add names of their own.
_LONGEST_SOCKET_FOLDER = 80


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made once per folder."""

    secret_key: str
    api_key: str
    sandbox_key: str
    redis_password: str


class Home:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """StackError when another stack runs on this folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.folder("logs")
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(f"a stack already runs on {self.path}") from None
            yield

    def folder(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path

    def log(self, part: str) -> Path:
        return self.path / "logs" / f"{part}.log"

    def socket_folder(self, name: str) -> Path:
        """A folder for Unix sockets whose path is short enough, 0700."""
        path = self.path / name
        if len(os.fsencode(path)) > _LONGEST_SOCKET_FOLDER:
            mark = sha256(os.fsencode(self.path)).hexdigest()[:12]
            path = Path(tempfile.gettempdir()) / f"flow-nexus-{os.getuid()}-{mark}-{name}"
        path.mkdir(mode=0o700, exist_ok=True)
        if path.is_symlink() or path.stat().st_uid not in (os.getuid(), self._postgres_owner()):
            raise StackError(f"{path} belongs to somebody else")
        return path

    def _postgres_owner(self) -> int:
        data = self.path / "postgres"
        return data.stat().st_uid if data.exists() else os.getuid()

    def secrets(self) -> Secrets:
        path = self.path / "secrets"
        if not path.exists():
            made = {
                "secret_key": secrets.token_urlsafe(48),
                "api_key": f"fnx_{secrets.token_urlsafe(32)}",
                "sandbox_key": f"e2b_{secrets.token_hex(20)}",
                "redis_password": secrets.token_urlsafe(24),
            }
            self.write_private("secrets", json.dumps(made))
        return Secrets(**json.loads(path.read_text()))

    def write_private(self, name: str, text: str) -> None:
        """Write a file that only its owner can read, whole or not at all."""
        temporary = self.path / f".{name}.new"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        temporary.replace(self.path / name)

    def port(self, name: str) -> int:
        """A free loopback port, the same as last time where it still is free."""
        path = self.path / "ports.json"
        known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        if not is_free("127.0.0.1", known.get(name, 0)):
            known.pop(name)
        if name not in known:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                known[name] = probe.getsockname()[1]
            self.write_private("ports.json", json.dumps(known))
        return known[name]


def is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False
