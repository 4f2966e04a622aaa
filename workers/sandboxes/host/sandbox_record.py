"""What the host stores about a sandbox, in a file beside the sandbox's folders."""

import os
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import ConfigDict, TypeAdapter

STATE_FILE = "state.json"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """One sandbox's record. `number` is unique among the live sandboxes of this host.

    `traffic_token` is None if traffic needs no token. `request_digest` shows whether a second
    creation with the same key asks for the same sandbox.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

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
        """Write the record atomically: after a crash the file is the old one or the new one."""
        temporary = folder / f".{STATE_FILE}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_RECORD.dump_json(self))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / STATE_FILE)

    @classmethod
    def load(cls, folder: Path) -> "SandboxRecord":
        """Return the record of the sandbox in `folder`.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a whole record.
        """
        return _RECORD.validate_json((folder / STATE_FILE).read_bytes())


_RECORD = TypeAdapter(SandboxRecord)


def new_sandbox_id() -> str:
    return "i" + "".join(secrets.choice(_ALPHABET) for _ in range(19))


def new_token() -> str:
    return secrets.token_hex(24)
