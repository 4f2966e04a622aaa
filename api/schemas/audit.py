"""Models of the audit log."""

from pydantic import Field

from api.schemas.base import ResponseModel, Timestamp
from api.store.tables import AuditRow


class AuditDetail(ResponseModel):
    """More about a request, without data."""

    path: str | None = Field(None, description="The path of a file.")
    node: str | None = Field(None, description="The node in whose sandbox code ran.")
    data_export: bool = Field(False, description="Only the scope `data:export` allowed the request.")


class AuditEntry(ResponseModel):
    """One request in the audit log."""

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
    detail: AuditDetail

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
            detail=AuditDetail(**row.detail),
        )
