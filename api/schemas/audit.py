"""Models of the audit log."""

from typing import Any

from pydantic import Field

from api.schemas.base import ResponseModel, Timestamp
from api.store.tables import AuditRow


class AuditEntry(ResponseModel):
    audit_id: str = Field(examples=["aud_4k2j9x7m1q8f3b6c"])
    time: Timestamp
    key_id: str
    key_prefix: str = Field(description="The first characters of the key that was sent.")
    operation: str = Field(description="The operationId of the request.", examples=["upload_file"])
    resource: str | None = Field(
        description="The id of the resource in the request or its answer; for a sandbox, the id of its node."
    )
    status: int = Field(
        description="HTTP status. The transaction of a change also writes its success. If the answer was another one, a"
        " second entry with the same `request_id` has it."
    )
    address: str | None = Field(description="The client's address, as the server sees it.")
    request_id: str = Field(description="The value of the answer's X-Request-Id.")
    detail: dict[str, Any] = Field(description="`path` of a file; `data_export` when only that scope allowed the request.")

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
