"""What the control plane asks of a sandbox provider, whoever provides the sandboxes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from api.domain.records import Record

AGENT_PORT = 8000
SandboxState = Literal["running", "paused"]


class SandboxError(Exception):
    """A provider call failed; the message is safe to show to a client."""


class SandboxNotFoundError(SandboxError):
    """The provider has no live sandbox of that id."""


class SandboxFileNotFoundError(SandboxError):
    """The sandbox has nothing at that path."""


class SandboxPathError(SandboxError):
    """The path is not usable: it escapes the sandbox, or a file stands where a folder is needed."""


class SandboxUnavailableError(SandboxError):
    """The provider could not be reached in time; trying again may help."""


class SandboxUnsupportedError(SandboxError):
    """This provider or this template cannot do that (node is not installed, say)."""


class SandboxFullError(SandboxError):
    """The sandbox has no room left for what was written."""


class NodeResources(Record):
    """What a node's sandbox has. `memory_gb` is in GiB. A null could not be measured, or is not there."""

    cpu_cores: int | None
    memory_gb: float | None
    gpu: str | None


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What to start. `key` makes creation idempotent (letters, digits and hyphens)."""

    key: str
    template: str
    timeout_s: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A sandbox as its provider describes it. Memory in MiB; None where the provider does not say."""

    sandbox_id: str
    template: str
    state: SandboxState
    metadata: Mapping[str, str]
    started_at: datetime
    end_at: datetime
    cpu_count: int | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxMetrics:
    """One measurement of a running sandbox; None where the provider cannot measure it."""

    time: datetime
    cpu_count: int | None
    cpu_used_pct: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    disk_used_bytes: int | None
    disk_total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach a port of a sandbox over HTTP: base URL, headers that route and open the way, and a Unix socket when the
    caller has no TCP route to the URL."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    uds: str | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file written into a sandbox; `size` in bytes, `sha256` in hex, measured on the bytes that were sent."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes out of a sandbox. `size` is None when it is not known before the stream ends."""

    chunks: AsyncIterator[bytes]
    filename: str
    media_type: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A finished command. `limit` names the limit that ended it, if one did."""

    stdout: str
    stderr: str
    exit_code: int | None
    duration_ms: int
    limit: Literal["timeout", "output"] | None = None


@dataclass(frozen=True, slots=True)
class ResourceLimitHit:
    """A limit that the sandbox ran into: memory, processes, disk, files, timeout or output, how often, first and last."""

    limit: str
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class LogLine:
    time: datetime
    stream: str
    line: str


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """`isolation` names the mechanism; `warning` is set when it is weaker than it should be."""

    ok: bool
    kind: str
    isolation: str | None = None
    warning: str | None = None


class SandboxProvider(Protocol):
    """Every method has its own timeout and raises `SandboxError` or a subclass. Paths are absolute inside the sandbox."""

    async def create(self, spec: SandboxSpec) -> SandboxInfo: ...
    async def get(self, sandbox_id: str) -> SandboxInfo: ...
    async def list(self, metadata: Mapping[str, str]) -> Sequence[SandboxInfo]: ...
    async def extend(self, sandbox_id: str, timeout_s: int) -> None: ...
    async def kill(self, sandbox_id: str) -> bool: ...
    async def metrics(self, sandbox_id: str) -> SandboxMetrics | None: ...
    async def limit_hits(self, sandbox_id: str) -> Sequence[ResourceLimitHit] | None: ...
    async def logs(self, sandbox_id: str, lines: int) -> Sequence[LogLine]: ...
    async def start(self, sandbox_id: str, command: str) -> int: ...
    async def run(
        self, sandbox_id: str, command: str, *, timeout_s: float, max_output: int, stdin: str | None = None
    ) -> CommandResult: ...
    async def execute(
        self, sandbox_id: str, code: str, *, language: str | None, timeout_s: float, max_output: int
    ) -> CommandResult: ...
    async def upload(
        self, sandbox_id: str, path: str, chunks: AsyncIterator[bytes], *, mode: int | None = None
    ) -> StoredFile: ...
    async def download(self, sandbox_id: str, path: str) -> Download: ...
    async def endpoint(self, sandbox_id: str, port: int) -> Endpoint: ...
    async def peer_endpoint(self, sandbox_id: str, port: int) -> Endpoint: ...
    async def status(self) -> ProviderStatus: ...
    async def aclose(self) -> None: ...
