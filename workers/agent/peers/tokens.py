"""Tokens: who may call an agent, and as which node.

Each agent has a key that only it and the control plane know. A token belongs to one caller at one
agent: `<role>.<node id>.<HMAC-SHA256 of these two with that agent's key>`. So an agent knows its
caller. Nobody can call in another node's name. A leaked token opens one agent to one caller. The
control plane adds a token to every peer that it names to an agent. An agent can create tokens for
its own routes only. It does so when it gives its address to others.
"""

import hmac
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from workers.agent.protocol.common import Peer

T = TypeVar("T")


class Caller(NamedTuple):
    """The sender of a request.

    `role` is `control`, or the node's role when the token was made. A worker that was promoted is
    an `aggregator`.
    """

    role: str
    node_id: str


CONTROL_PLANE = Caller("control", "")


def issue(key: str, caller: Caller) -> str:
    """Return the caller's token at the agent that has the key."""
    name = f"{caller.role}.{caller.node_id}"
    return f"{name}.{hmac.digest(key.encode(), name.encode(), 'sha256').hex()}"


def read(key: str, token: str) -> Caller | None:
    """Return the caller that the token belongs to. None: the token is not from this key."""
    role, _, rest = token.partition(".")
    caller = Caller(role, rest.rpartition(".")[0])
    return caller if hmac.compare_digest(issue(key, caller).encode(), token.encode()) else None


def with_tokens(message: T, token_at: Callable[[str], str]) -> T:
    """Return the message with a token in every peer that has none.

    `token_at` maps a node id to the receiver's token at that node.
    """
    return _add_tokens(message, token_at)  # type: ignore[no-any-return]


def _add_tokens(value: Any, token_at: Callable[[str], str]) -> Any:
    match value:
        case Peer():
            return value if value.token is not None else value.model_copy(update={"token": token_at(value.node_id)})
        case BaseModel():
            return value.model_copy(update={name: _add_tokens(part, token_at) for name, part in value})
        case list():
            return [_add_tokens(part, token_at) for part in value]
    return value
