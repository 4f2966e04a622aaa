import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from api.domain.sandboxes import SandboxError
from api.http.auth import Executor
from api.http.deps import AppState, Pages, State
from api.routes.common import errors, held, path_id, to_page
from api.routes.creation import Creation
from api.routes.sandboxes import SandboxId
from api.routes.waiting import Waiting
from api.schemas.base import Page
from api.schemas.executions import Execution, ExecutionCreate
from api.services import executions
from api.store.database import UnitOfWork
from api.store.tables import ExecutionRow

router = APIRouter(prefix="/v1", tags=["executions"])
ExecutionId = Annotated[str, path_id("The id of an execution.", "exec_7h2k9m4p1q")]
_ASK_TIMEOUT_S = 5.0
_TAIL_BYTES = 10_000


@router.post(
    "/sandboxes/{sandbox_id}/executions",
    operation_id="start_execution",
    summary="Run code in the background of a sandbox",
    status_code=202,
    responses={**held(Execution, "The execution"), **errors(404, 409, 502, body=True)},
)
async def start_execution(
    sandbox_id: SandboxId, body: ExecutionCreate, caller: Executor, state: State, creation: Creation, waiting: Waiting
) -> Execution:
    """Run code as `execute` does, and return at once. The code runs at most once.

    Follow it with `stream_execution_events` and end it with `cancel_execution`. The end of its
    sandbox ends it too. A running execution counts as use of the cluster.

    In a worker's sandbox, only its data owner and keys with the scope `data:export` can run code.
    """
    spec = body.spec()

    def start(uow: UnitOfWork) -> ExecutionRow:
        return executions.start(uow, state.settings, caller, sandbox_id, spec)

    row = await creation.create(caller, ExecutionRow, body, start)
    row = await waiting.wait_until_settled(caller, row)
    # A repeated request may come from a key that may not run code there.
    found = await state.run(lambda uow: executions.get(uow.session, caller, row.id))
    waiting.raise_if_failed(row, f"/v1/executions/{row.id}")
    waiting.set_location(f"/v1/executions/{row.id}")
    return await _with_tails(state, found, _TAIL_BYTES)


@router.get(
    "/sandboxes/{sandbox_id}/executions",
    operation_id="list_executions",
    summary="List the executions of a sandbox",
    responses=errors(404),
)
async def list_executions(sandbox_id: SandboxId, caller: Executor, state: State, page_request: Pages) -> Page[Execution]:
    """Return the executions of a sandbox's node, the newest first.

    `stdout` and `stderr` are null here.
    """
    page = await state.run(lambda uow: executions.page(uow.session, caller, sandbox_id, page_request))
    return to_page(page, Execution.of)


@router.get(
    "/executions/{execution_id}",
    operation_id="get_execution",
    summary="Get an execution",
    responses=errors(404),
)
async def get_execution(
    execution_id: ExecutionId,
    caller: Executor,
    state: State,
    tail_bytes: Annotated[
        int, Query(ge=0, le=1_000_000, description="The largest number of bytes of `stdout` and of `stderr`, from their ends.")
    ] = _TAIL_BYTES,
) -> Execution:
    """Return the execution with the end of its output.

    Only who may run code in its sandbox may read it. The audit log records each call.
    """
    found = await state.run(lambda uow: executions.get(uow.session, caller, execution_id))
    return await _with_tails(state, found, tail_bytes)


@router.post(
    "/executions/{execution_id}/cancel",
    operation_id="cancel_execution",
    summary="Cancel an execution",
    status_code=202,
    responses={**held(Execution, "The execution"), **errors(404)},
)
async def cancel_execution(execution_id: ExecutionId, caller: Executor, state: State, waiting: Waiting) -> Execution:
    """End the code with all processes that it started.

    It is safe to repeat the call, and an ended execution stays as it is.
    """
    row = await state.run(lambda uow: executions.cancel(uow, caller, execution_id), caller)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/executions/{row.id}")
    return Execution.of(row)


async def _with_tails(state: AppState, found: executions.Execution, most: int) -> Execution:
    """Return the execution with the ends of its output, at most `most` bytes of each stream."""
    row, sandbox_id = found.row, found.output_in
    if sandbox_id is None or row.status == "pending":
        return Execution.of(row)
    after = (-most, -most) if most else (0, 0)
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_S):
            output = await state.provider.read_execution(sandbox_id, row.id, after=after, most=most, wait_s=0)
    except (SandboxError, TimeoutError):
        return Execution.of(row)
    if output.state != "running" and row.finished_at is None:
        await state.run(lambda uow: executions.note_end(uow, row.id))
    return Execution.of(row, output)
