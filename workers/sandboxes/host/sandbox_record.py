"""What a host remembers of a sandbox, in a file beside the sandbox's folders."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

STATE_FILE = "state.json"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """`number` is this sandbox's own among the live ones; `traffic_token` is None where traffic needs no token.

    `request_digest` tells whether a second creation with the same key asks for the same sandbox.
    """

    sandbox_id: str
    number: int
    template: str
    metadata: dict[str, str]
    envs: dict[str, str]
    access_token: str
    traffic_token: str | None
    started_at: datetime
    end_at: datetime
    key: str | None
    request_digest: str

    def ending_in(self, seconds: float) -> Self:
        return replace(self, end_at=datetime.now(UTC) + timedelta(seconds=seconds))

    def save(self, folder: Path) -> None:
        """Write atomically: after a crash the file is the old one or the new one."""
        fields = asdict(self) | {"started_at": self.started_at.isoformat(), "end_at": self.end_at.isoformat()}
        temporary = folder / f".{STATE_FILE}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(fields, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / STATE_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raise OSError or ValueError when there is no whole record."""
        fields = json.loads((folder / STATE_FILE).read_text())
        try:
            times = {name: datetime.fromisoformat(fields[name]) for name in ("started_at", "end_at")}
            return cls(**fields | times)
        except (KeyError, TypeError) as error:
            raise ValueError("not a sandbox's record") from error


def new_sandbox_id() -> str:
    return "i" + "".join(secrets.choice(_ALPHABET) for _ in range(19))


def new_token() -> str:
    return secrets.token_hex(24)
