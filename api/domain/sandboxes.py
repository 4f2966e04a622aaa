"""The interface of a sandbox provider, with the types of its arguments and results."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal, Protocol

from api.domain.words import Words

AGENT_PORT = 8000
SandboxState = Literal["running", "paused"]
ExecutionLimit = Annotated[Literal["timeout", "output", "memory"], Words("ExecutionLimit", "A limit that ended code.")]
ResourceLimit = Annotated[
    Literal["memory", "processes", "disk", "files", "timeout", "output"],
    Words("ResourceLimit", "A limit of a sandbox that stopped a process."),
]
SandboxHealth = Annotated[
    Literal["ok", "unreachable", "ended"], Words("SandboxHealth", "What the provider says about a sandbox.")
]
LogStream = Annotated[
    Literal["stdout", "stderr", "system"],
    Words("LogStream", "Where a log line comes from. system: the sandbox itself."),
]
ProviderKind = Annotated[Literal["local", "e2b"], Words("ProviderKind", "Who runs the sandboxes.")]


class SandboxError(Exception):
    """A provider call failed; the message is safe to show to a client."""


class SandboxNotFoundError(SandboxError):
    """The provider has no live sandbox with that id."""


class SandboxFileNotFoundError(SandboxError):
    """The sandbox has no file or folder at that path."""


class SandboxFileExistsError(SandboxError):
    """The sandbox already has a file or folder at that path."""


class SandboxPathError(SandboxError):
    """The path is not usable: it leaves the sandbox, or a file is where a folder is needed."""


class SandboxUnavailableError(SandboxError):
    """The provider could not be reached in time. A retry may help."""


class SandboxUnsupportedError(SandboxError):
    """This provider or this template cannot do that. For example, node is not installed."""


class SandboxKeyError(SandboxError):
    """The provider refuses this deployment's key. A retry does not help."""


class SandboxFullError(SandboxError):
    """The sandbox's disk is full."""


FileKind = Annotated[Literal["file", "folder", "other"], Words("FileKind", "other: a link, a pipe or a device.")]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file or folder in a sandbox. `size` is in bytes; a folder has none."""

    name: str
    kind: FileKind
    size: int | None
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """The sandbox to start. `key` makes the creation idempotent (letters, digits and hyphens)."""

    key: str
    template: str
    timeout_s: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A sandbox as its provider describes it. Memory in MiB. None: the provider does not know."""

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
    """One measurement of a running sandbox. None: the provider cannot measure it."""

    time: datetime
    cpu_count: int | None
    cpu_used_pct: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    disk_used_bytes: int | None
    disk_total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The HTTP address of a port of a sandbox.

    `url` is the base URL. `headers` route and authorize the request. `uds` is a Unix socket for a
    caller without a TCP route to the URL.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    uds: str | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file written into a sandbox.

    `size` (bytes) and `sha256` (hex) are those of the sent bytes.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Download:
    """A download from a sandbox. `size` is None when it is not known before the stream ends."""

    chunks: AsyncIterator[bytes]
    filename: str
    media_type: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command. `limit` names the limit that ended the command, if any.

    With the limits `timeout` and `output` there is no exit code.
    """

    stdout: str
    stderr: str
    exit_code: int | None
    duration_ms: int
    limit: ExecutionLimit | None = None


@dataclass(frozen=True, slots=True)
class ExecuteOptions:
    """What code gets when it is run. `cwd` is absolute; None is the home folder.

    `stdin` is None for an empty standard input.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    args: Sequence[str] = ()
    stdin: str | None = None
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionJob:
    """Code for the background. `language` None is the template's. `max_output` is in bytes."""

    code: str
    language: str | None
    timeout_s: float
    max_output: int
    options: ExecuteOptions = field(default_factory=ExecuteOptions)


@dataclass(frozen=True, slots=True)
class ExecutionEnd:
    """How code in the background ended. The times are those of the sandbox's clock.

    `stopped`: a call ended it. There is no exit code then, nor with the limits `timeout` and
    `output`. `started_at` is None if the code never ran.
    """

    exit_code: int | None
    limit: ExecutionLimit | None
    stopped: bool
    started_at: datetime | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class OutputPart:
    """A part of a stream: its bytes from `begin` on. `size` is the stream's size so far."""

    begin: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ExecutionOutput:
    """The state of code in the background, and a part of its output.

    `absent`: the sandbox knows no such execution. `lost`: its processes are gone and left no
    record of their end.
    """

    state: Literal["absent", "running", "ended", "lost"]
    end: ExecutionEnd | None
    stdout: OutputPart
    stderr: OutputPart


@dataclass(frozen=True, slots=True)
class ResourceLimitHit:
    """A limit that the sandbox reached, how often, and when first and last."""

    limit: ResourceLimit
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class LogLine:
    time: datetime
    stream: LogStream
    line: str


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """The provider's state.

    `isolation` names the mechanism; `warning` is set when it is too weak.
    """

    ok: bool
    kind: ProviderKind
    isolation: str | None = None
    warning: str | None = None


class SandboxProvider(Protocol):
    """Every method has its own timeout and raises `SandboxError` or a subclass.

    Paths are absolute inside the sandbox.
    """

    async def create(self, spec: SandboxSpec) -> SandboxInfo: ...
    async def get(self, sandbox_id: str) -> SandboxInfo: ...
    async def list(self, metadata: Mapping[str, str]) -> Sequence[SandboxInfo]: ...
    async def extend(self, sandbox_id: str, timeout_s: int) -> None: ...
    async def kill(self, sandbox_id: str) -> bool: ...
    async def metrics(self, sandbox_id: str) -> SandboxMetrics | None: ...
    async def limit_hits(self, sandbox_id: str) -> Sequence[ResourceLimitHit] | None: ...
    async def logs(self, sandbox_id: str, lines: int) -> Sequence[LogLine]: ...
    async def start(self, sandbox_id: str, command: str) -> int: ...
    async def is_running(self, sandbox_id: str, words: str) -> bool: ...
    async def run(
        self, sandbox_id: str, command: str, *, timeout_s: float, max_output: int, stdin: str | None = None
    ) -> CommandResult: ...
    async def execute(
        self,
        sandbox_id: str,
        code: str,
        *,
        language: str | None,
        timeout_s: float,
        max_output: int,
        options: ExecuteOptions | None = None,
    ) -> CommandResult: ...
    async def start_execution(self, sandbox_id: str, execution_id: str, job: ExecutionJob) -> None: ...
    async def read_execution(
        self, sandbox_id: str, execution_id: str, *, after: tuple[int, int], most: int, wait_s: float
    ) -> ExecutionOutput: ...
    async def stop_execution(self, sandbox_id: str, execution_id: str) -> None: ...
    async def remove_execution(self, sandbox_id: str, execution_id: str) -> None: ...
    async def upload(
        self, sandbox_id: str, path: str, chunks: AsyncIterator[bytes], *, replaces: bool = True
    ) -> StoredFile: ...
    async def download(self, sandbox_id: str, path: str) -> Download: ...
    async def list_files(self, sandbox_id: str, path: str) -> Sequence[FileEntry]: ...
    async def remove(self, sandbox_id: str, path: str) -> None: ...
    async def endpoint(self, sandbox_id: str, port: int) -> Endpoint: ...
    async def peer_endpoint(self, sandbox_id: str, port: int) -> Endpoint: ...
    async def status(self) -> ProviderStatus: ...
    async def aclose(self) -> None: ...
