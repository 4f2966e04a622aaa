"""Models of sandboxes, their files and logs, and of code that is run while the client waits."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from pydantic import Field

from api.domain.sandboxes import (
    CommandResult,
    ExecutionLimit,
    FileEntry,
    FileKind,
    LogLine,
    LogStream,
    ResourceLimit,
    SandboxHealth,
    SandboxMetrics,
    StoredFile,
)
from api.domain.sandboxes import ResourceLimitHit as Hit
from api.domain.specs import Role, Template
from api.domain.status import NodeState
from api.schemas.base import Figure, Int64, ResponseModel, Timestamp
from api.schemas.nodes import Resources
from api.store.tables import NodeRow

_MOST_LISTED: Final = 1000


class SandboxUse(ResponseModel):
    """The provider's current measurement. A value is null when the provider cannot measure it."""

    cpu_used_percent: Figure | None
    memory_used_bytes: Int64 | None
    memory_total_bytes: Int64 | None
    disk_used_bytes: Int64 | None
    disk_total_bytes: Int64 | None

    @classmethod
    def of(cls, metrics: SandboxMetrics) -> "SandboxUse":
        return cls(
            cpu_used_percent=metrics.cpu_used_pct,
            memory_used_bytes=metrics.memory_used_bytes,
            memory_total_bytes=metrics.memory_total_bytes,
            disk_used_bytes=metrics.disk_used_bytes,
            disk_total_bytes=metrics.disk_total_bytes,
        )


class LimitHit(ResponseModel):
    """A limit that the sandbox has reached."""

    limit: ResourceLimit
    count: int = Field(description="How often the limit was reached.")
    first_at: Timestamp
    last_at: Timestamp


class Sandbox(ResponseModel):
    """The sandbox of a node."""

    sandbox_id: str = Field(examples=["sbx4f0c2a9d1e7b"])
    node_id: str
    cluster_id: str
    role: Role
    template: Template
    status: NodeState = Field(description="The status of its node.")
    health: SandboxHealth | None = Field(description="The provider's answer; null in lists.")
    resources: Resources | None
    uptime_seconds: Figure | None = Field(description="Seconds from the start to the end, or to now.")
    started_at: Timestamp | None
    ended_at: Timestamp | None
    expires_at: Timestamp | None = Field(description="When the provider ends the sandbox, unless it is extended before.")
    usage: SandboxUse | None = Field(description="null in lists, and when the provider has no measurement.")
    limit_hits: list[LimitHit] | None = Field(
        description="Limits that stopped a process in the sandbox, the latest first. null in lists, for an ended sandbox, and"
        " when the provider does not report them (E2B)."
    )

    @classmethod
    def of(
        cls,
        row: NodeRow,
        health: SandboxHealth | None = None,
        metrics: SandboxMetrics | None = None,
        hits: Sequence[Hit] | None = None,
    ) -> "Sandbox":
        end = row.ended_at or datetime.now(UTC)
        return cls(
            sandbox_id=row.sandbox_id or "",
            node_id=row.id,
            cluster_id=row.cluster_id,
            role=row.role,
            template=row.template,
            status=row.status,
            health=health,
            resources=Resources(**row.resources.model_dump()) if row.resources else None,
            uptime_seconds=(end - row.started_at).total_seconds() if row.started_at else None,
            started_at=row.started_at,
            ended_at=row.ended_at,
            expires_at=row.sandbox_expires_at,
            usage=SandboxUse.of(metrics) if metrics else None,
            limit_hits=None if hits is None else [LimitHit.model_validate(asdict(hit)) for hit in hits],
        )


class UploadedFile(ResponseModel):
    """A file that was stored in a sandbox."""

    path: str = Field(examples=["/data/train_shard_1.json"])
    size: Int64 = Field(description="Bytes of the stored file.")
    sha256: str = Field(description="Of the stored file.")

    @classmethod
    def of(cls, stored: StoredFile) -> "UploadedFile":
        return cls(path=stored.path, size=stored.size, sha256=stored.sha256)


class ListedFile(ResponseModel):
    """A file or folder."""

    name: str
    kind: FileKind
    size: Int64 | None = Field(description="Bytes; null for what is no file.")
    modified_at: Timestamp


class FileList(ResponseModel):
    """The content of a folder, folders first."""

    path: str
    items: list[ListedFile] = Field(description=f"At most {_MOST_LISTED}.")
    total: int = Field(description="How many the folder has.")

    @classmethod
    def of(cls, path: str, entries: Sequence[FileEntry]) -> "FileList":
        shown = [ListedFile(**asdict(entry)) for entry in entries[:_MOST_LISTED]]
        return cls(path=path, items=shown, total=len(entries))


class ExecutionResult(ResponseModel):
    """What code printed, and how it ended."""

    stdout: str
    stderr: str
    exit_code: int | None = Field(description="null when the timeout or the output limit ended the command.")
    duration_ms: Int64
    limit: ExecutionLimit | None = Field(
        description="The limit that ended the command, if any. With `memory` the exit code is that of the kill, 137."
    )

    @classmethod
    def of(cls, result: CommandResult) -> "ExecutionResult":
        return cls(
            stdout=result.stdout,
            stderr=result.stderr,
            exit_code=result.exit_code,
            duration_ms=result.duration_ms,
            limit=result.limit,
        )


class LogEntry(ResponseModel):
    """One line of a sandbox's log."""

    time: Timestamp
    stream: LogStream
    line: str


class Logs(ResponseModel):
    """The newest lines of a sandbox's log."""

    sandbox_id: str
    lines: list[LogEntry] = Field(description="The oldest line first.")

    @classmethod
    def of(cls, sandbox_id: str, lines: list[LogLine]) -> "Logs":
        return cls(
            sandbox_id=sandbox_id, lines=[LogEntry(time=item.time, stream=item.stream, line=item.line) for item in lines]
        )
