import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.auth import ClusterReader, DataWriter, Executor
from api.deps import AppState, Pages, State
from api.domain.errors import FieldError, InvalidError, TooLargeError
from api.domain.paths import check_path
from api.domain.sandboxes import SandboxError, SandboxNotFoundError
from api.routes.common import answers, errors, place
from api.schemas.base import Page
from api.schemas.sandboxes import Execute, Execution, File, Logs, Sandbox
from api.services import sandboxes
from api.services.keys import Principal
from api.store.database import UnitOfWork
from api.store.models import NodeRow

router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"])
SandboxId = Annotated[
    str, Path(max_length=100, pattern=r"^[^\x00]*$", description="a sandbox's id or its node's", examples=["node_w1_abc123"])
]
FilePath = Annotated[str, Query(max_length=2000, description="absolute in the sandbox", examples=["/data/train.json"])]
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_ASK_TIMEOUT_S = 5.0


@router.get("", operation_id="list_sandboxes", summary="List sandboxes", responses=errors())
async def list_sandboxes(
    caller: ClusterReader,
    state: State,
    paging: Pages,
    status: Annotated[
        Literal["running", "lost", "failed", "terminating", "terminated", "provisioning"] | None,
        Query(description="only those whose node has this status"),
    ] = None,
) -> Page[Sandbox]:
    """Of all clusters, newest first, ended ones included. Asks no provider: `health` and `usage` are null here."""
    page = await state.work(lambda uow: sandboxes.page(uow.session, caller.project_id, status, paging.limit, paging.after))
    return Page(items=[Sandbox.of(row) for row in page.items], next_cursor=page.next.encode() if page.next else None)


@router.get("/{sandbox_id}", operation_id="get_sandbox", summary="Get a sandbox's health and use", responses=errors(404))
async def get_sandbox(sandbox_id: SandboxId, caller: ClusterReader, state: State) -> Sandbox:
    """Asks the provider: health, uptime and what the sandbox uses now."""
    row = await _find(state, caller, sandbox_id)
    if row.ended_at is not None or row.sandbox_id is None:
        return Sandbox.of(row, "ended")
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_S):
            await state.provider.get(row.sandbox_id)
            return Sandbox.of(row, "ok", await state.provider.metrics(row.sandbox_id))
    except SandboxNotFoundError:
        return Sandbox.of(row, "ended")
    except (SandboxError, TimeoutError):
        return Sandbox.of(row, "unreachable")


@router.put(
    "/{sandbox_id}/files",
    operation_id="upload_file",
    summary="Upload a file",
    status_code=201,
    responses={**answers(201, "What arrived"), **errors(404, 408, 409, 413, 502)},
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
)
async def upload_file(
    sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State, request: Request, response: Response
) -> File:
    """The raw body is streamed into the sandbox; the file appears when all of it has arrived, or not at all."""
    target = check_path(path, "/path")
    if target == "/":
        raise InvalidError("invalid_path", "The path must name a file.", errors=(FieldError("/path", "names a folder"),))
    node = sandboxes.running(await _use(state, caller, sandbox_id))
    limit = state.settings.max_upload_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    stored = await state.provider.upload(node, target, _bounded(request.stream(), limit))
    place(response, f"/v1/sandboxes/{sandbox_id}/files?path={quote(stored.path)}")
    return File.of(stored)


async def _bounded(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    taken = 0
    async for chunk in chunks:
        taken += len(chunk)
        if taken > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError("upload_too_large", f"An upload has at most {limit} bytes.")


@router.get(
    "/{sandbox_id}/files",
    operation_id="download_file",
    summary="Download a file, or a folder as a tar",
    response_class=StreamingResponse,
    responses={200: {"description": "The bytes; a folder comes as a tar", "content": _BINARY}, **errors(404, 409, 502)},
)
async def download_file(sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State) -> StreamingResponse:
    """Streamed as it is read; a folder is packed first, with names below its own."""
    target = check_path(path, "/path")
    node = sandboxes.running(await _use(state, caller, sandbox_id))
    download = await state.provider.download(node, target)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(download.filename, safe='')}"}
    if download.size is not None:
        headers["Content-Length"] = str(download.size)
    return StreamingResponse(download.chunks, media_type=download.media_type, headers=headers)


@router.post(
    "/{sandbox_id}/execute",
    operation_id="execute",
    summary="Run code in a sandbox",
    responses=errors(404, 409, 502, body=True),
)
async def execute(sandbox_id: SandboxId, body: Execute, caller: Executor, state: State) -> Execution:
    """Runs in the template's language, or `language`. A time limit and an output limit hold; `limit` says which was hit."""
    node = sandboxes.running(await _use(state, caller, sandbox_id))
    result = await state.provider.execute(
        node,
        body.code,
        language=body.language,
        timeout_s=body.timeout_s or state.settings.execute_timeout_s,
        max_output=state.settings.execute_max_output,
    )
    return Execution.of(result)


@router.get(
    "/{sandbox_id}/logs", operation_id="get_logs", summary="Get a sandbox's last log lines", responses=errors(404, 409, 502)
)
async def get_logs(
    sandbox_id: SandboxId,
    caller: ClusterReader,
    state: State,
    lines: Annotated[int, Query(ge=1, le=10_000, description="at most so many, the newest")] = 100,
) -> Logs:
    """What its processes printed, each line with its time and stream; a provider may keep fewer than are asked for."""
    node = await _find(state, caller, sandbox_id)
    found = await state.provider.logs(sandboxes.running(node), lines)
    return Logs.of(node.sandbox_id or "", list(found))


async def _find(state: AppState, caller: Principal, sandbox_id: str) -> NodeRow:
    return await state.work(lambda uow: sandboxes.resolve(uow.session, caller.project_id, sandbox_id))


async def _use(state: AppState, caller: Principal, sandbox_id: str) -> NodeRow:
    """Find a sandbox for somebody who works in it; looking at its health and its log is not work."""

    def use_case(uow: UnitOfWork) -> NodeRow:
        node = sandboxes.resolve(uow.session, caller.project_id, sandbox_id)
        sandboxes.called(uow.session, node)
        return node

    return await state.work(use_case)
