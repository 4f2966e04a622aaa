"""Calls of a test to an agent. Each request has the token of a caller that may use the route."""

import json
from collections.abc import Callable, Generator
from functools import partial

import httpx
from pydantic import SecretStr

from workers.agent.peers.tokens import CONTROL_PLANE, Caller, issue
from workers.agent_client import ClusterKeys

KEYS = ClusterKeys(SecretStr("secret-of-the-tests"), "cls_tests")
AGGREGATOR = Caller("aggregator", "ps")
_ASKED_BY_AGGREGATORS = ("scores", "audits", "inferences", "fallback", "evidence")


def key_of(node_id: str) -> str:
    return KEYS.key(node_id)


def tokens_of(caller: Caller) -> Callable[[str], str]:
    """Return a function that gives a node's token at each other node."""
    return partial(KEYS.token_at, caller=caller)


def bearer(node_id: str, caller: Caller) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS.token_at(node_id, caller)}"}


class Acting(httpx.Auth):
    """Leave a request with its own token unchanged."""

    requires_request_body = True

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if "Authorization" not in request.headers:
            request.headers["Authorization"] = f"Bearer {issue(self._key, _caller(request))}"
        yield request


def _caller(request: httpx.Request) -> Caller:
    parts = request.url.path.strip("/").split("/")
    if "updates" in parts:
        return Caller("worker", parts[-1])
    if "secure" in parts:
        return Caller("worker", json.loads(request.content)["node_id"])
    if parts[0] == "models" and request.method == "GET":
        return Caller("worker", "w1")
    return AGGREGATOR if set(parts) & set(_ASKED_BY_AGGREGATORS) else CONTROL_PLANE
