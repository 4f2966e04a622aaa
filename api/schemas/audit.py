"""Shape of the audit log."""

from typing import Any

from pydantic import Field

from api.schemas.base import ResponseModel, Timestamp
from api.store.tables import AuditRow


class AuditEntry(ResponseModel):
    audit_id: str = Field(examples=["aud_4k2j9x7m1q8f3b6c"])
    time: Timestamp
    key_id: str
    key_prefix: str = Field(description="how the key began that was presented")
    operation: str = Field(description="its operationId", examples=["upload_file"])
    resource: str | None = Field(description="id of what it was about, or what was asked for; a sandbox is named by its node")
    status: int = Field(
        description="HTTP status. A success is written with what it changed; where the answer then became another, a second"
        " entry with the same `request_id` says so"
    )
    address: str | None = Field(description="of the client, as the server saw it")
    request_id: str = Field(description="as in the answer's X-Request-Id")
    detail: dict[str, Any] = Field(description="`path` of a file; `data_export` when that scope alone opened the way")

    @classmethod
    def of(cls, row: AuditRow) -> "AuditEntry":
        return cls(
            audit_id=row.id,
            time=row.created_at,
            key_id=row.key_id,
            key_prefix=row.key_prefix,
            operation=row.operation,
            resource=row.resource,
            status=row.status,
            address=row.address,
            request_id=row.request_id,
            detail=row.detail,
        )
