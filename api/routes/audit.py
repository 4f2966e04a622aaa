from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from api.http.auth import Admin
from api.http.deps import Pages, State
from api.routes.common import errors
from api.schemas.audit import AuditEntry
from api.schemas.base import Page
from api.services import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])
Word = Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")]
Moment = Annotated[AwareDatetime | None, Query(description="RFC 3339, with its offset from UTC")]


@router.get("", operation_id="list_audit", summary="Read the audit log", responses=errors())
async def list_audit(
    caller: Admin,
    state: State,
    paging: Pages,
    key_id: Word = None,
    operation: Word = None,
    resource: Word = None,
    status: Annotated[int | None, Query(ge=100, le=599)] = None,
    since: Moment = None,
    until: Moment = None,
) -> Page[AuditEntry]:
    """Newest first: everything that changed something or was meant to, downloads, executions, readings of logs, and refusals
    (401, 403, 404, 429). Nobody can change it, the service included."""
    wanted = audit.Query(key_id, operation, resource, status, since, until)
    page = await state.work(lambda uow: audit.page(uow.session, caller.project_id, wanted, paging.limit, paging.after))
    return Page(items=[AuditEntry.of(row) for row in page.items], next_cursor=page.next.encode() if page.next else None)
