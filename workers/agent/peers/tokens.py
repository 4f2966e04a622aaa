"""Passes: who may call an agent, and as whom.

Each agent has a key that it shares with the control plane alone. A pass is the bearer token of one caller at one agent:
`<role>.<node id>.<HMAC-SHA256 of these two under that agent's key>`. So an agent knows who calls, nobody calls in another's
name, and a pass that leaks opens one agent to one caller. The control plane sends a pass along with every peer that it names
to an agent; an agent can make passes for itself alone, and does so where it names itself to others.
"""

import hmac
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from workers.agent.protocol.common import Peer

T = TypeVar("T")


class Caller(NamedTuple):
    """`role` is `control`, or what the node was when the pass was made: a worker that was promoted is an `aggregator`."""

    role: str
    node_id: str


CONTROL_PLANE = Caller("control", "")


def issue(key: str, caller: Caller) -> str:
    """The caller's pass at the agent that has the key."""
    name = f"{caller.role}.{caller.node_id}"
    return f"{name}.{hmac.digest(key.encode(), name.encode(), 'sha256').hex()}"


def read(key: str, token: str) -> Caller | None:
    """Whose pass it is; None for what this agent's key has not made."""
    role, _, rest = token.partition(".")
    caller = Caller(role, rest.rpartition(".")[0])
    return caller if hmac.compare_digest(issue(key, caller).encode(), token.encode()) else None


def with_tokens(message: T, token_at: Callable[[str], str]) -> T:
    """The message with a pass for every peer in it that has none; `token_at` gives the reader's pass at a node."""
    return _introduced(message, token_at)  # type: ignore[no-any-return]


def _introduced(value: Any, token_at: Callable[[str], str]) -> Any:
    match value:
        case Peer():
            return value if value.token is not None else value.model_copy(update={"token": token_at(value.node_id)})
        case BaseModel():
            return value.model_copy(update={name: _introduced(part, token_at) for name, part in value})
        case list():
            return [_introduced(part, token_at) for part in value]
    return value
