import asyncio
import shlex
from collections.abc import Awaitable
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.domain.access import Act
from api.domain.errors import FieldError, InvalidError
from api.domain.paths import check_path
from api.domain.sandboxes import SandboxError, SandboxFileNotFoundError, SandboxNotFoundError
from api.http.auth import ClusterReader, DataWriter, Executor, SandboxReader
from api.http.deps import AppState, Pages, State
from api.http.uploads import Upload
from api.routes.common import answers, errors, set_location
from api.schemas.base import Page
from api.schemas.sandboxes import Execute, Execution, File, Logs, Sandbox
from api.services import sandboxes
from api.services.principals import Principal
from api.store.tables import NodeRow

T = TypeVar("T")
router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"])
SandboxId = Annotated[
    str, Path(max_length=100, pattern=r"^[^\x00]*$", description="a sandbox's id or its node's", examples=["node_w1_abc123"])
]
FilePath = Annotated[str, Query(max_length=2000, description="absolute in the sandbox", examples=["/data/train.json"])]
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_ASK_TIMEOUT_S = 5.0
_DELETE_TIMEOUT_S = 60.0
_MISSING = 44


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
async def get_sandbox(sandbox_id: SandboxId, caller: SandboxReader, state: State) -> Sandbox:
    """Asks the provider: health, uptime, what the sandbox uses now and which limits it ran into."""
    row = await state.work(lambda uow: sandboxes.resolve(uow.session, caller, sandbox_id))
    if row.ended_at is not None or row.sandbox_id is None:
        return Sandbox.of(row, "ended")
    provider, sandbox = state.provider, row.sandbox_id
    # Each for itself: which limits a sandbox ran into is wanted most when it does not answer.
    found, metrics, hits = await asyncio.gather(
        _ask(provider.get(sandbox)), _ask(provider.metrics(sandbox)), _ask(provider.limit_hits(sandbox))
    )
    if isinstance(found, SandboxNotFoundError) or isinstance(metrics, SandboxNotFoundError):
        return Sandbox.of(row, "ended")
    silent = isinstance(found, SandboxError) or isinstance(metrics, SandboxError)
    return Sandbox.of(
        row,
        "unreachable" if silent else "ok",
        None if isinstance(metrics, SandboxError) else metrics,
        None if isinstance(hits, SandboxError) else hits,
    )


async def _ask(question: Awaitable[T]) -> T | SandboxError:
    """What the provider says, or what kept it from saying so in time."""
    try:
        return await asyncio.wait_for(question, _ASK_TIMEOUT_S)
    except TimeoutError:
        return SandboxError("the sandbox provider does not answer")
    except SandboxError as error:
        return error


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
    """The raw body is streamed into the sandbox; the file appears when all of it has arrived, or not at all. In a worker's
    sandbox a key without `data:export` may upload below `/data` only."""
    target = _file(path)
    node = await _enter(state, caller, sandbox_id, "upload", target)
    length = request.headers.get("content-length", "")
    upload = Upload(state.work, state.settings, caller.project_id, node.id, int(length) if length.isdecimal() else None)
    arrived = 0
    try:
        stored = await state.provider.upload(sandboxes.running(node), target, upload.chunks(request.stream()))
        arrived = stored.size
    finally:
        await upload.settle(arrived)
    set_location(response, f"/v1/sandboxes/{sandbox_id}/files?path={quote(stored.path)}")
    return File.of(stored)


def _file(path: str) -> str:
    target = check_path(path, "/path")
    if target == "/":
        raise InvalidError("invalid_path", "The path must name a file.", errors=(FieldError("/path", "names a folder"),))
    return target


@router.get(
    "/{sandbox_id}/files",
    operation_id="download_file",
    summary="Download a file, or a folder as a tar",
    response_class=StreamingResponse,
    responses={200: {"description": "The bytes; a folder comes as a tar", "content": _BINARY}, **errors(404, 409, 502)},
)
async def download_file(sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State) -> StreamingResponse:
    """Streamed as it is read; a folder is packed first, with names below its own. A worker's sandbox gives nothing out but to
    its data owner, and to keys with the scope `data:export`; the audit log names them."""
    target = check_path(path, "/path")
    node = await _enter(state, caller, sandbox_id, "download", target)
    download = await state.provider.download(sandboxes.running(node), target)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(download.filename, safe='')}"}
    if download.size is not None:
        headers["Content-Length"] = str(download.size)
    return StreamingResponse(download.chunks, media_type=download.media_type, headers=headers)


@router.delete(
    "/{sandbox_id}/files",
    operation_id="delete_file",
    summary="Delete a file or a folder",
    status_code=204,
    responses=errors(404, 409, 502),
)
async def delete_file(sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State) -> None:
    """A folder with all that lies in it. What it counted against the quota of uploaded bytes stays counted."""
    target = _file(path)
    node = await _enter(state, caller, sandbox_id, "delete", target)
    name = shlex.quote(target)
    command = f"test -e {name} -o -L {name} || exit {_MISSING}; rm -rf -- {name}"
    result = await state.provider.run(sandboxes.running(node), command, timeout_s=_DELETE_TIMEOUT_S, max_output=1000)
    if result.exit_code == _MISSING:
        raise SandboxFileNotFoundError(f"there is nothing at {target}")
    if result.exit_code != 0:
        raise SandboxError("the sandbox could not delete it")


@router.post(
    "/{sandbox_id}/execute",
    operation_id="execute",
    summary="Run code in a sandbox",
    responses=errors(404, 409, 502, body=True),
)
async def execute(sandbox_id: SandboxId, body: Execute, caller: Executor, state: State) -> Execution:
    """Runs in the template's language, or `language`. A time limit and an output limit hold; `limit` says which was hit. In a
    worker's sandbox only its data owner may, and keys with the scope `data:export`."""
    node = await _enter(state, caller, sandbox_id, "execute")
    result = await state.provider.execute(
        sandboxes.running(node),
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
    caller: SandboxReader,
    state: State,
    lines: Annotated[int, Query(ge=1, le=10_000, description="at most so many, the newest")] = 100,
) -> Logs:
    """What its processes printed, each line with its time and stream; a provider may keep fewer than are asked for."""
    node = await state.work(lambda uow: sandboxes.resolve(uow.session, caller, sandbox_id), caller)
    found = await state.provider.logs(sandboxes.running(node), lines)
    return Logs.of(node.sandbox_id or "", list(found))


async def _enter(state: AppState, caller: Principal, sandbox_id: str, act: Act, path: str | None = None) -> NodeRow:
    """The node, once it stands in the audit log that the caller was let in."""
    return await state.work(lambda uow: sandboxes.enter(uow.session, caller, sandbox_id, act, path), caller)
