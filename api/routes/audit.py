from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, StringConstraints

from api.http.auth import Admin
from api.http.deps import Pages, State
from api.routes.common import errors, to_page
from api.schemas.audit import AuditEntry
from api.schemas.base import Page
from api.services import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])
Word = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")]


async def get_filter(
    key_id: Annotated[Word | None, Query(description="Only requests of this key.")] = None,
    operation: Annotated[Word | None, Query(description="Only requests with this operationId.")] = None,
    resource: Annotated[Word | None, Query(description="Only requests for this resource.")] = None,
    status: Annotated[int | None, Query(ge=100, le=599, description="Only answers with this HTTP status.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Not before this RFC 3339 time with its offset.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this RFC 3339 time with its offset.")] = None,
) -> audit.AuditFilter:
    return audit.AuditFilter(key_id, operation, resource, status, since, until)


Filter = Annotated[audit.AuditFilter, Depends(get_filter)]


@router.get("", operation_id="list_audit", summary="Read the audit log", responses=errors())
async def list_audit(
    caller: Admin,
    state: State,
    audit_filter: Filter,
    page_request: Pages,
) -> Page[AuditEntry]:
    """Return the newest requests first: attempted changes, downloads, executions, readings of logs,
    and refusals.

    Refusals are answers with status 401, 403, 404 or 429. Nobody can change the log, not even the
    service.
    """
    page = await state.run(lambda uow: audit.page(uow.session, caller.project_id, audit_filter, page_request))
    return to_page(page, AuditEntry.of)
