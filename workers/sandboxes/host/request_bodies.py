"""What a client asks for when it creates a sandbox, and what of that this host cannot do."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

_NAMES = ("python", "nodejs", "base")
_MAX_TIMEOUT_S = 7 * 24 * 3600
_DEFAULT_TIMEOUT_S = 300
_MAX_KEY = 255
_UNSUPPORTED = {
    "autoPause": "pausing a sandbox",
    "mcp": "MCP servers",
    "iam": "workload identity",
    "volumeMounts": "volumes",
}
_UNSUPPORTED_NETWORK = {"allowOut", "egressProxy", "maskRequestHost", "httpsPorts", "rules"}


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What a client asks for; `public` lets traffic in without a token."""

    template: str
    metadata: dict[str, str]
    envs: dict[str, str]
    timeout_s: int
    public: bool
    key: str | None

    @property
    def digest(self) -> str:
        fields = [self.template, self.metadata, self.envs, self.timeout_s, self.public]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class BadRequestError(Exception):
    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TemplateNames:
    """The templates of this host, by their plain names and by those they have at E2B."""

    def __init__(self, prefix: str) -> None:
        self._names = {*_NAMES, *(prefix + name for name in _NAMES)}

    def check(self, name: object) -> str:
        if not isinstance(name, str) or name not in self._names:
            raise BadRequestError(f"template '{str(name)[:100]}' not found", 404)
        return name


def parse_create_request(body: dict[str, Any], key: str | None, templates: TemplateNames) -> CreateRequest:
    """Raise BadRequestError: 400 for a body that makes no sense, 404 for the template, 501 for what this host lacks."""
    for name, what in _UNSUPPORTED.items():
        if body.get(name):
            raise BadRequestError(f"this host does not support {what}", 501)
    network = body.get("network") or {}
    if not isinstance(network, dict):
        raise BadRequestError("network must be an object")
    for name in sorted(_UNSUPPORTED_NETWORK & network.keys()):
        if network[name]:
            raise BadRequestError(f"this host does not support network.{name}: its sandboxes have no way out", 501)
    if key is not None and not (0 < len(key) <= _MAX_KEY and key.replace("-", "").isalnum() and key.isascii()):
        raise BadRequestError("an idempotency key has 1 to 255 letters, digits and hyphens")
    return CreateRequest(
        template=templates.check(body.get("templateID")),
        metadata=_strings(body, "metadata"),
        envs=_strings(body, "envVars"),
        timeout_s=read_timeout(body, "timeout"),
        public=network.get("allowPublicTraffic") is not False,
        key=key,
    )


def read_timeout(body: dict[str, Any], name: str) -> int:
    seconds = body.get(name, _DEFAULT_TIMEOUT_S)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds <= _MAX_TIMEOUT_S:
        raise BadRequestError(f"{name} must be a whole number of seconds from 0 to {_MAX_TIMEOUT_S}")
    return seconds


def _strings(body: dict[str, Any], name: str) -> dict[str, str]:
    given = body.get(name) or {}
    if not isinstance(given, dict) or not all(isinstance(item, str) for pair in given.items() for item in pair):
        raise BadRequestError(f"{name} must map strings to strings")
    return given
