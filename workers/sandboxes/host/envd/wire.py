"""What the host and a sandbox's envd say to each other over the one socket they share.

First the host sends the settings: a length and a JSON object. After that, each 8-byte request (id, port) asks for a
connection to a port inside the sandbox; the answer (id, errno) carries the connected socket as a file descriptor. An
answer to the id NOTICE, which nobody asks with, is news instead: the index in LIMIT_NAMES of a limit that was run into. The
end of the stream, on either side, means that the other is gone.
"""

import json
import socket
import struct
from dataclasses import asdict, dataclass, field
from typing import Self

ENVD_PORT = 49983
VERSION = "0.6.1"
FRAME = struct.Struct("!II")
NOTICE = 0xFFFFFFFF
LIMIT_NAMES = ("memory", "processes", "disk", "files", "timeout", "output")
_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How a sandbox runs. Sizes in bytes; `root` is where the sandbox's `/` lies as envd sees it.

    `watch_memory` tells envd to hold the memory limit itself, because no cgroup does.
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
        (length,) = _LENGTH.unpack(_exactly(control, _LENGTH.size))
        return cls(**json.loads(_exactly(control, length)))


def _exactly(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = control.recv(size - len(data))
        if not chunk:
            raise EOFError("the host is gone")
        data += chunk
    return data
