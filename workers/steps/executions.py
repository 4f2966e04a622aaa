"""An execution: a supervisor in the sandbox runs the code. Steps start it, follow it and end it.

The supervisor runs the code of an id at most once. So a step can be repeated when its worker dies.
The next one finds the running code by its id.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import func, select

from api.domain.records import FailureReason
from api.domain.sandboxes import (
    ExecuteOptions,
    ExecutionEnd,
    ExecutionJob,
    ExecutionOutput,
    SandboxError,
    SandboxFullError,
    SandboxNotFoundError,
    SandboxPathError,
    SandboxUnsupportedError,
)
from api.domain.specs import ExecutionRequest
from api.domain.status import ACTIVE_EXECUTION
from api.domain.steps import Step
from api.store import leases, transitions
from api.store.tables import ExecutionRow, NodeRow
from workers import metrics
from workers.context import Context
from workers.steps.shared.job_end import ended
from workers.steps.shared.lease import act, under_lease

log = logging.getLogger(__name__)
# A step follows young code for a moment, so that a short run ends without a pause.
_FOLLOW_S = 5.0
_FOLLOW_STEP_S = 0.5
_POLL_S = 2.0
# The sandbox itself ends the code at its timeout. After this extra time a step does it.
_OVERDUE = timedelta(seconds=30)
_REFUSALS = {
    SandboxUnsupportedError: "unsupported_by_sandbox",
    SandboxPathError: "invalid_path",
    SandboxFullError: "sandbox_full",
}


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt. `sandbox_id` is None if the sandbox has ended. `now` is the database's clock."""

    context: Context
    execution_id: str
    token: str
    status: str
    sandbox_id: str | None
    request: ExecutionRequest | None
    timeout_s: float
    started_at: datetime | None
    now: datetime

    @property
    def is_overdue(self) -> bool:
        return self.started_at is not None and self.now > self.started_at + timedelta(seconds=self.timeout_s) + _OVERDUE


def advance(context: Context, execution_id: str) -> None:
    """Start a pending execution, follow a running one, end one that is being cancelled."""
    end_as_failed = partial(_fail, context, execution_id)
    under_lease(context, ExecutionRow, execution_id, partial(_advance, context, execution_id), end_as_failed)


def _advance(context: Context, execution_id: str, token: str) -> None:
    work = _load(context, execution_id, token)
    if work is None:
        return
    if work.sandbox_id is None:
        _sandbox_ended(work)
        return
    try:
        act(context, ExecutionRow, execution_id, token, partial(_ACTS.get(work.status, _remove), work, work.sandbox_id))
    except SandboxNotFoundError:
        _sandbox_ended(work)
    except (SandboxUnsupportedError, SandboxPathError, SandboxFullError) as error:
        _fail(context, execution_id, token, FailureReason(code=_REFUSALS[type(error)], detail=f"{error}."))


def _load(context: Context, execution_id: str, token: str) -> _Work | None:
    """Return what is to be done. None if there is nothing."""
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, ExecutionRow, execution_id, token)
        node = uow.session.get_one(NodeRow, row.node_id)
        # A lost node may come back with its sandbox, and the code runs on meanwhile.
        is_there = node.sandbox_id == row.sandbox_id and node.status in ("running", "lost") and node.ended_at is None
        if row.status not in ACTIVE_EXECUTION and not (is_there and row.has_output):
            row.has_output = False
            leases.release(row, None)
            return None
        now = uow.session.execute(select(func.clock_timestamp())).scalar_one()
        sandbox_id = row.sandbox_id if is_there else None
        return _Work(context, execution_id, token, row.status, sandbox_id, row.request, row.timeout_s, row.started_at, now)


async def _start(work: _Work, sandbox_id: str) -> None:
    request = work.request
    if request is None:
        raise ValueError("a pending execution without code")
    options = ExecuteOptions(request.env, request.args, request.stdin, request.cwd)
    most = work.context.settings.background_max_output
    job = ExecutionJob(request.code, request.language, work.timeout_s, most, options)
    await work.context.provider.start_execution(sandbox_id, work.execution_id, job)
    await asyncio.to_thread(_started, work)
    await _follow(work, sandbox_id)


def _started(work: _Work) -> None:
    with work.context.database.unit_of_work() as uow:
        row = leases.held(uow.session, ExecutionRow, work.execution_id, work.token)
        if row.status == "pending":
            row.request = None
            row.started_at = func.clock_timestamp()
            transitions.move(uow.session, row, "running")


async def _follow(work: _Work, sandbox_id: str) -> None:
    """Follow the code for some seconds. Apply its end if it ends meanwhile."""
    until = asyncio.get_running_loop().time() + _FOLLOW_S
    while True:
        output = await _state(work, sandbox_id, _FOLLOW_STEP_S)
        if output.state == "running" and work.is_overdue:
            await work.context.provider.stop_execution(sandbox_id, work.execution_id)
            output = await _state(work, sandbox_id, 0)
        elif output.state in ("lost", "absent"):
            # What is left of the code must not run on unseen.
            await work.context.provider.stop_execution(sandbox_id, work.execution_id)
            await asyncio.to_thread(_lost, work)
            return
        is_over = asyncio.get_running_loop().time() > until
        if await asyncio.to_thread(_apply, work, output, is_over=is_over):
            return


async def _state(work: _Work, sandbox_id: str, wait_s: float) -> ExecutionOutput:
    return await work.context.provider.read_execution(sandbox_id, work.execution_id, after=(0, 0), most=0, wait_s=wait_s)


def _apply(work: _Work, output: ExecutionOutput, *, is_over: bool) -> bool:
    """Write down what was seen. Return whether the lease has ended."""
    if output.end is not None:
        _complete(work, output, output.end)
        return True
    with work.context.database.unit_of_work() as uow:
        row = leases.held(uow.session, ExecutionRow, work.execution_id, work.token)
        row.stdout_bytes, row.stderr_bytes = output.stdout.size, output.stderr.size
        if row.status == "cancelling":
            leases.release(row, 0)
            uow.enqueue(Step.EXECUTIONS_ADVANCE, row.id)
        elif is_over:
            leases.release(row, _POLL_S, waits=True)
        return row.lease_token is None


async def _cancel(work: _Work, sandbox_id: str) -> None:
    await work.context.provider.stop_execution(sandbox_id, work.execution_id)
    output = await _state(work, sandbox_id, 0)
    if output.end is None:
        raise SandboxError("the sandbox did not tell how the execution ended")
    await asyncio.to_thread(_complete, work, output, output.end)


def _complete(work: _Work, output: ExecutionOutput, end: ExecutionEnd) -> None:
    with work.context.database.unit_of_work() as uow:
        row = ended(uow, ExecutionRow, work.execution_id, work.token)
        if row.status not in ACTIVE_EXECUTION:
            return
        _keep_output(work.context, row)
        row.request = None
        row.stdout_bytes, row.stderr_bytes = output.stdout.size, output.stderr.size
        row.exit_code, row.limit = end.exit_code, end.limit
        if row.status == "cancelling" and end.stopped:
            transitions.move(uow.session, row, "cancelled")
            return
        if end.stopped:
            # The step itself has stopped code that outlived its timeout.
            row.limit = "timeout"
        limit = row.limit
        transitions.move(uow.session, row, "completed", exit_code=row.exit_code, limit=limit)
    if limit is not None:
        metrics.SANDBOX_LIMITS.labels(limit).inc()


def _keep_output(context: Context, row: ExecutionRow) -> None:
    """Make the row due when its output is to be removed."""
    row.due_at = func.clock_timestamp() + timedelta(hours=context.settings.retention_background_hours)


def _lost(work: _Work) -> None:
    detail = "The sandbox has no record of how the code ended. Its processes are gone: a limit or the code itself killed them."
    _fail(work.context, work.execution_id, work.token, FailureReason(code="end_unknown", detail=detail))


def _sandbox_ended(work: _Work) -> None:
    with work.context.database.unit_of_work() as uow:
        row = ended(uow, ExecutionRow, work.execution_id, work.token)
        row.has_output = False
        row.request = None
        if row.status == "cancelling":
            transitions.move(uow.session, row, "cancelled")
        elif row.status in ACTIVE_EXECUTION:
            detail = "The sandbox ended while the code ran." if row.started_at else "The sandbox ended before the code began."
            row.error = FailureReason(code="sandbox_ended", detail=detail)
            transitions.move(uow.session, row, "failed", error=row.error.facts())


def _fail(context: Context, execution_id: str, token: str, reason: FailureReason) -> None:
    """End the execution as failed, unless it has ended."""
    with context.database.unit_of_work() as uow:
        row = ended(uow, ExecutionRow, execution_id, token)
        if row.status not in ACTIVE_EXECUTION:
            row.has_output = False
            return
        _keep_output(context, row)
        row.request = None
        row.error = reason
        transitions.move(uow.session, row, "failed", error=reason.facts())


async def _remove(work: _Work, sandbox_id: str) -> None:
    """Remove the output of an execution that ended long ago."""
    await work.context.provider.remove_execution(sandbox_id, work.execution_id)
    await asyncio.to_thread(_removed, work)


def _removed(work: _Work) -> None:
    with work.context.database.unit_of_work() as uow:
        row = leases.held(uow.session, ExecutionRow, work.execution_id, work.token)
        row.has_output = False
        leases.release(row, None)


_ACTS = {"pending": _start, "running": _follow, "cancelling": _cancel}
