"""The JSON bodies that clients send to the REST API, parsed once."""

import hashlib
import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.sandboxes.host.envd.wire import LIMIT_NAMES, LimitName

_TEMPLATES = ("python", "nodejs", "base")
_MAX_TIMEOUT_S = 7 * 24 * 3600
_DEFAULT_TIMEOUT_S = 300
_MAX_KEY_LENGTH = 255
_SECONDS = f"must be a whole number of seconds from 0 to {_MAX_TIMEOUT_S}"
_REQUIREMENTS = {
    "metadata": "must map strings to strings",
    "envVars": "must map strings to strings",
    "network": "must be an object",
    "timeout": _SECONDS,
    "duration": _SECONDS,
    "limit": f"must be one of {', '.join(LIMIT_NAMES)}",
}


class BadRequestError(Exception):
    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _RequestBody(BaseModel):
    """Fields that this host does not know are ignored."""

    model_config = ConfigDict(strict=True)


class _NetworkBody(_RequestBody):
    """The network options. Those that this host refuses may have any type."""

    allow_public_traffic: object = Field(None, alias="allowPublicTraffic")
    allow_out: object = Field(None, alias="allowOut")
    egress_proxy: object = Field(None, alias="egressProxy")
    mask_request_host: object = Field(None, alias="maskRequestHost")
    https_ports: object = Field(None, alias="httpsPorts")
    rules: object = None

    def unsupported(self) -> list[str]:
        """Return E2B's names of the options that are set and that this host lacks."""
        options = {
            "allowOut": self.allow_out,
            "egressProxy": self.egress_proxy,
            "httpsPorts": self.https_ports,
            "maskRequestHost": self.mask_request_host,
            "rules": self.rules,
        }
        return [name for name, value in options.items() if value]


class _CreateBody(_RequestBody):
    template_id: object = Field(None, alias="templateID")
    metadata: dict[str, str] | None = None
    env_vars: dict[str, str] | None = Field(None, alias="envVars")
    timeout: int = Field(_DEFAULT_TIMEOUT_S, ge=0, le=_MAX_TIMEOUT_S)
    network: _NetworkBody | None = None
    auto_pause: object = Field(None, alias="autoPause")
    mcp: object = None
    iam: object = None
    volume_mounts: object = Field(None, alias="volumeMounts")

    def unsupported(self) -> list[str]:
        """Return the features that the client asks for and that this host lacks."""
        features = {
            "pausing a sandbox": self.auto_pause,
            "MCP servers": self.mcp,
            "workload identity": self.iam,
            "volumes": self.volume_mounts,
        }
        return [feature for feature, value in features.items() if value]


class TimeoutBody(_RequestBody):
    """The body of `/timeout` and `/connect`. The unit is seconds."""

    timeout: int = Field(_DEFAULT_TIMEOUT_S, ge=0, le=_MAX_TIMEOUT_S)


class RefreshBody(_RequestBody):
    """The body of `/refreshes`. The unit is seconds."""

    duration: int = Field(_DEFAULT_TIMEOUT_S, ge=0, le=_MAX_TIMEOUT_S)


class LimitBody(_RequestBody):
    """The body of `POST /limits`: the limit that the client enforced."""

    limit: LimitName


_Body = TypeVar("_Body", bound=_RequestBody)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A valid request for a sandbox. `public` lets traffic in without a token."""

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


class TemplateNames:
    """This host's templates. Each has a plain name, and the name with `prefix` that E2B uses."""

    def __init__(self, prefix: str) -> None:
        self._names = {*_TEMPLATES, *(prefix + name for name in _TEMPLATES)}

    def check(self, name: object) -> str:
        if not isinstance(name, str) or name not in self._names:
            raise BadRequestError(f"template '{str(name)[:100]}' not found", 404)
        return name


def parse_body(body_type: type[_Body], body: object) -> _Body:
    """Return the parsed body. `body` is the decoded JSON value.

    Raises:
        BadRequestError: a field is missing or has a wrong value.
    """
    try:
        return body_type.model_validate(body)
    except ValidationError as error:
        location = error.errors(include_url=False, include_input=False)[0]["loc"]
        if not location:
            raise BadRequestError("the body is not a JSON object") from error
        raise BadRequestError(f"{location[0]} {_REQUIREMENTS[str(location[0])]}") from error


def parse_create_request(body: object, key: str | None, templates: TemplateNames) -> CreateRequest:
    """Return the request for a sandbox. `key` is the idempotency key.

    Raises:
        BadRequestError: the status is 400 for a wrong field, 404 for an unknown template, and 501
            for a feature that this host lacks.
    """
    fields = parse_body(_CreateBody, body)
    if features := fields.unsupported():
        raise BadRequestError(f"this host does not support {features[0]}", 501)
    network = fields.network or _NetworkBody()
    if options := network.unsupported():
        raise BadRequestError(f"this host does not support network.{options[0]}: its sandboxes have no way out", 501)
    if key is not None and not (0 < len(key) <= _MAX_KEY_LENGTH and key.replace("-", "").isalnum() and key.isascii()):
        raise BadRequestError("an idempotency key has 1 to 255 letters, digits and hyphens")
    return CreateRequest(
        template=templates.check(fields.template_id),
        metadata=fields.metadata or {},
        envs=fields.env_vars or {},
        timeout_s=fields.timeout,
        public=network.allow_public_traffic is not False,
        key=key,
    )
