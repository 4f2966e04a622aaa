"""What the host asks envd itself."""

import json
from typing import Any

import httpcore

from workers.sandboxes.host.envd.wire import ENVD_PORT
from workers.sandboxes.host.running_sandbox import RunningSandbox
from workers.sandboxes.host.socket_stream import SocketStream

_TIMEOUT_S = 10.0


async def fetch_usage(machine: RunningSandbox) -> dict[str, Any]:
    """The sandbox's use of CPU, memory and disk. Raise SandboxGoneError, PortClosedError or httpcore's errors."""
    stream = SocketStream(await machine.dial(ENVD_PORT))
    origin = httpcore.Origin(b"http", b"sandbox", 80)
    timeouts = {"read": _TIMEOUT_S, "write": _TIMEOUT_S}
    async with httpcore.AsyncHTTP11Connection(origin, stream) as connection:
        response = await connection.request("GET", "http://sandbox/metrics", extensions={"timeout": timeouts})
    measured: dict[str, Any] = json.loads(response.content)
    return measured
