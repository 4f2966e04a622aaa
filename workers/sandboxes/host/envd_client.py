"""The requests that the host itself sends to envd."""

import json

import httpcore

from workers.sandboxes.host.envd.wire import ENVD_PORT, UsageReport
from workers.sandboxes.host.running_sandbox import RunningSandbox
from workers.sandboxes.host.socket_stream import SocketStream

_TIMEOUT_S = 10.0


async def fetch_usage(sandbox: RunningSandbox) -> UsageReport:
    """Return the sandbox's use of CPU, memory and disk.

    Raises:
        SandboxGoneError: the sandbox has ended.
        PortClosedError: envd accepts no connection.
        httpcore.NetworkError: the connection broke.
        httpcore.TimeoutException: envd did not answer in time.
    """
    stream = SocketStream(await sandbox.dial(ENVD_PORT))
    origin = httpcore.Origin(b"http", b"sandbox", 80)
    timeouts = {"read": _TIMEOUT_S, "write": _TIMEOUT_S}
    async with httpcore.AsyncHTTP11Connection(origin, stream) as connection:
        response = await connection.request("GET", "http://sandbox/metrics", extensions={"timeout": timeouts})
    return UsageReport(**json.loads(response.content))
