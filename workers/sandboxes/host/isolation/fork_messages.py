"""What the host and the template process send to each other.

The host sends one byte with three descriptors: the child's connection to the host, envd's control
socket and the sandbox's log. The child answers STARTED on its connection. Then the host sends the
plan there: a length and a JSON object.
"""

import json
import socket
import struct
from typing import TypedDict

from workers.sandboxes.host.envd.wire import receive_exactly
from workers.sandboxes.host.isolation.launcher import NamespacePlan

READY = b"r"
STARTED = b"s"
DESCRIPTORS = 3
_LENGTH = struct.Struct("!I")


class ForkPlan(TypedDict):
    """How a forked child becomes a sandbox. All paths are as the template process sees them.

    `title` is shown for the process that stays outside the sandbox.
    """

    cgroups: list[str]
    namespaces: NamespacePlan
    title: list[str]


def encode_plan(plan: ForkPlan) -> bytes:
    body = json.dumps(plan).encode()
    return _LENGTH.pack(len(body)) + body


def receive_plan(host: socket.socket) -> ForkPlan:
    """Raises: EOFError if the host ends before it has sent the plan."""
    (length,) = _LENGTH.unpack(receive_exactly(host, _LENGTH.size))
    plan: ForkPlan = json.loads(receive_exactly(host, length))
    return plan
