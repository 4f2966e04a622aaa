"""The messages between the host and a sandbox's envd.

All but `UsageReport` travel over the one socket that the two share. First the host sends the
settings: a length and a JSON object. After that the host sends 8-byte requests (id, port). Each
asks for a connection to a port inside the sandbox. The answer (id, errno) carries the connected
socket as a file descriptor.

An answer with the id NOTICE belongs to no request. It reports that the sandbox reached a limit;
its second number is the limit's index in LIMIT_NAMES. When one side reads the end of the stream,
the other side is gone.
"""

import json
import socket
import struct
from dataclasses import asdict, dataclass, field
from typing import Literal, Self, get_args

ENVD_PORT = 49983
VERSION = "0.6.1"
FRAME = struct.Struct("!II")
NOTICE = 0xFFFFFFFF
LimitName = Literal["memory", "processes", "disk", "files", "timeout", "output"]
LIMIT_NAMES: tuple[LimitName, ...] = get_args(LimitName)
# The error of a process that ended because of the sandbox's memory limit.
MEMORY_LIMIT_REACHED = "memory limit reached"
_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How a sandbox runs. Sizes are in bytes. `root` is the sandbox's `/` as envd sees it.

    With `watch_memory`, no cgroup enforces the memory limit, so envd does. `per_sandbox_limits`
    says whether the kernel counts this sandbox's processes apart from those of the machine.
    """

    root: str
    path: str
    python_path: str
    memory_bytes: int
    disk_bytes: int
    files: int
    processes: int
    watch_memory: bool
    per_sandbox_limits: bool
    envs: dict[str, str] = field(default_factory=dict)

    def send(self, control: socket.socket) -> None:
        body = json.dumps(asdict(self)).encode()
        control.sendall(_LENGTH.pack(len(body)) + body)

    @classmethod
    def receive(cls, control: socket.socket) -> Self:
        """Return the settings. Raise EOFError if the host ends before it has sent them."""
        (length,) = _LENGTH.unpack(receive_exactly(control, _LENGTH.size))
        return cls(**json.loads(receive_exactly(control, length)))


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a sandbox uses, as envd answers `GET /metrics`. Sizes are in bytes.

    `cpu_used_pct` is in percent of one core since the last measurement. It and `memory_used_bytes`
    are None where the sandbox's processes cannot be distinguished from the machine's.
    """

    cpu_count: int
    cpu_used_pct: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int


def receive_exactly(control: socket.socket, size: int) -> bytes:
    """Raise EOFError if the host ends before it has sent `size` bytes."""
    data = b""
    while len(data) < size:
        chunk = control.recv(size - len(data))
        if not chunk:
            raise EOFError("the host is gone")
        data += chunk
    return data
