"""Use cases of an execution: code that runs in the background of a sandbox.

An execution is as closed as its sandbox. Who may not run code there may not see one either.
"""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.access import check_access
from api.domain.errors import NotFoundError
from api.domain.specs import ExecutionSpec
from api.domain.status import ACTIVE_EXECUTION
from api.domain.steps import Step
from api.services import quotas, sandboxes
from api.services.lookup import locked_cluster, owned
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.services.principals import Principal
from api.settings import Settings
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ExecutionRow, NodeRow


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution, and the sandbox that has its output; None if the output is gone."""

    row: ExecutionRow
    output_in: str | None


def start(uow: UnitOfWork, settings: Settings, caller: Principal, sandbox_or_node_id: str, spec: ExecutionSpec) -> ExecutionRow:
    session = uow.session
    # Lock order: the project first, then the cluster.
    quotas.claim(session, settings, caller.project_id, executions=1)
    node = sandboxes.authorize(session, caller, sandbox_or_node_id, "execute")
    locked_cluster(session, node.cluster_id)
    row = ExecutionRow(
        id=ids.execution_id(),
        project_id=caller.project_id,
        cluster_id=node.cluster_id,
        node_id=node.id,
        sandbox_id=sandboxes.running_sandbox_id(node),
        status="pending",
        request=spec.request,
        language=spec.request.language,
        timeout_s=spec.timeout_s or settings.background_timeout_s,
        due_at=func.clock_timestamp(),
    )
    transitions.created(session, row, node_id=node.id)
    uow.enqueue(Step.EXECUTIONS_ADVANCE, row.id)
    return row


def get(session: Session, caller: Principal, execution_id: str) -> Execution:
    """Return an execution. The audit record gets its node and the use of `data:export`.

    Raises:
        NotFoundError: there is none, or its sandbox is another data owner's.
        ForbiddenError: the caller may not run code in its sandbox.
    """
    row = owned(session, ExecutionRow, caller.project_id, execution_id)
    if caller.node_id not in (None, row.node_id):
        raise NotFoundError("execution", execution_id)
    node = session.get_one(NodeRow, row.node_id)
    _check(caller, node)
    has_output = row.has_output and node.sandbox_id == row.sandbox_id and node.ended_at is None
    return Execution(row, row.sandbox_id if has_output else None)


def page(session: Session, caller: Principal, sandbox_or_node_id: str, page_request: PageRequest) -> ResultPage[ExecutionRow]:
    """Return the executions of a sandbox's node, those in its earlier sandboxes too."""
    node = sandboxes.resolve(session, caller, sandbox_or_node_id)
    _check(caller, node)
    return fetch_page(session, select(ExecutionRow).where(ExecutionRow.node_id == node.id), ExecutionRow, page_request)


def cancel(uow: UnitOfWork, caller: Principal, execution_id: str) -> ExecutionRow:
    """End the code. An execution that has ended stays as it is."""
    row = get(uow.session, caller, execution_id).row
    locked_cluster(uow.session, row.cluster_id)
    uow.session.refresh(row)
    if row.status in ("pending", "running"):
        transitions.move(uow.session, row, "cancelling")
        # Nobody will run the code any more, or it runs already.
        row.request = None
        leases.wake(row)
        uow.enqueue(Step.EXECUTIONS_ADVANCE, row.id)
    return row


def note_end(uow: UnitOfWork, execution_id: str) -> None:
    """Let the step see the end at once. A reader has found that the code no longer runs."""
    row = uow.session.get_one(ExecutionRow, execution_id)
    if row.status in ACTIVE_EXECUTION:
        leases.wake(row)
        uow.enqueue(Step.EXECUTIONS_ADVANCE, row.id)


def _check(caller: Principal, node: NodeRow) -> None:
    owner = caller.node_id == node.id
    exported = check_access("execute", None, role=node.role, sealed=node.data_owner, owner=owner, scopes=caller.scopes)
    if caller.audit_record is not None:
        caller.audit_record.detail["node"] = node.id
        if exported:
            caller.audit_record.detail["data_export"] = True
