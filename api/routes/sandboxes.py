import asyncio
import shlex
from collections.abc import Awaitable
from typing import Annotated, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.domain.access import Act
from api.domain.errors import FieldError, InvalidError
from api.domain.paths import check_path
from api.domain.sandboxes import SandboxError, SandboxFileNotFoundError, SandboxNotFoundError
from api.domain.status import NodeState
from api.http.activity import ClusterActivity
from api.http.auth import ClusterReader, DataWriter, Executor, SandboxReader
from api.http.content_digest import with_checked_digest
from api.http.deps import AppState, Pages, State
from api.http.upload_body import check_is_whole, file_chunks, file_size
from api.http.uploads import Upload
from api.routes.common import BINARY, OCTET_STREAM, answers, errors, path_id, set_location, to_page
from api.schemas.base import Page
from api.schemas.executions import ExecuteRequest
from api.schemas.sandboxes import ExecutionResult, FileList, Logs, Sandbox, UploadedFile
from api.services import sandboxes
from api.services.principals import Principal
from api.store.tables import NodeRow

T = TypeVar("T")
router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"])
SandboxId = Annotated[
    str,
    path_id("The id of a sandbox or of its node.", "node_w1_abc123"),
]
FilePath = Annotated[str, Query(max_length=2000, description="Absolute path in the sandbox.", examples=["/data/train.json"])]
ContentDigest = Annotated[
    str | None,
    Header(
        max_length=500,
        description="The SHA-256 or SHA-512 of the body (RFC 9530). If the body has another, nothing is stored.",
        examples=["sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"],
    ),
]
OnlyNew = Annotated[
    str | None,
    Header(alias="If-None-Match", pattern=r"^\*$", description="`*`: store only a new file; 412 if there is one at the path."),
]
_FILE = {"description": "The bytes; a folder comes as a tar", "content": {**BINARY, "application/x-tar": BINARY[OCTET_STREAM]}}
_ASK_TIMEOUT_S = 5.0
_DELETE_TIMEOUT_S = 60.0
_MISSING = 44


@router.get("", operation_id="list_sandboxes", summary="List sandboxes", responses=errors())
async def list_sandboxes(
    caller: ClusterReader,
    state: State,
    page_request: Pages,
    status: Annotated[NodeState | None, Query(description="Only sandboxes whose node has this status.")] = None,
) -> Page[Sandbox]:
    """Return the sandboxes of all clusters, the newest first. Ended sandboxes are included.

    The provider is not asked: `health` and `usage` are null here.
    """
    page = await state.run(lambda uow: sandboxes.page(uow.session, caller.project_id, status, page_request))
    return to_page(page, Sandbox.of)


@router.get("/{sandbox_id}", operation_id="get_sandbox", summary="Get a sandbox with its health and use", responses=errors(404))
async def get_sandbox(sandbox_id: SandboxId, caller: SandboxReader, state: State) -> Sandbox:
    """Ask the provider for health, uptime, current use and the limits that were reached."""
    row = await state.run(lambda uow: sandboxes.resolve(uow.session, caller, sandbox_id))
    if row.ended_at is not None or row.sandbox_id is None:
        return Sandbox.of(row, "ended")
    provider, sandbox = state.provider, row.sandbox_id
    # Three separate calls: the reached limits matter most when the sandbox does not answer.
    info, metrics, hits = await asyncio.gather(
        _ask(provider.get(sandbox)), _ask(provider.metrics(sandbox)), _ask(provider.limit_hits(sandbox))
    )
    if isinstance(info, SandboxNotFoundError) or isinstance(metrics, SandboxNotFoundError):
        return Sandbox.of(row, "ended")
    silent = isinstance(info, SandboxError) or isinstance(metrics, SandboxError)
    return Sandbox.of(
        row,
        "unreachable" if silent else "ok",
        None if isinstance(metrics, SandboxError) else metrics,
        None if isinstance(hits, SandboxError) else hits,
    )


async def _ask(call: Awaitable[T]) -> T | SandboxError:
    """Return the provider's answer, or the error when there was none in time."""
    try:
        return await asyncio.wait_for(call, _ASK_TIMEOUT_S)
    except TimeoutError:
        return SandboxError("the sandbox provider does not answer")
    except SandboxError as error:
        return error


@router.put(
    "/{sandbox_id}/files",
    operation_id="upload_file",
    summary="Upload a file",
    status_code=201,
    responses={**answers(201, "The stored file"), **errors(404, 408, 409, 412, 413, 415, 502)},
    openapi_extra={"requestBody": {"required": True, "content": BINARY}},
)
async def upload_file(  # noqa: PLR0913 - each is a parameter of the request
    sandbox_id: SandboxId,
    path: FilePath,
    caller: DataWriter,
    state: State,
    request: Request,
    response: Response,
    content_digest: ContentDigest = None,
    if_none_match: OnlyNew = None,
) -> UploadedFile:
    """Stream the raw body into a file of the sandbox.

    The file appears when the whole body has arrived, or not at all. A multipart form with one file
    is stored as that file. A part of a file (`Content-Range`) is refused. A file is stored as it
    is sent, so `Content-Encoding` is refused. Compress the file itself instead.

    In a worker's sandbox, a key without the scope `data:export` can upload only below `/data`.
    """
    target = _file(path)
    check_is_whole(request.headers)
    body = with_checked_digest(content_digest, request.stream())
    node = await _authorize(state, caller, sandbox_id, "upload", target)
    upload = Upload(state.use_cases, state.settings, caller.project_id, node.id, file_size(request.headers))
    file = file_chunks(request.headers, body)
    arrived = 0
    try:
        chunks = _activity(state, node).after_each(upload.chunks(file))
        sandbox = sandboxes.running_sandbox_id(node)
        stored = await state.provider.upload(sandbox, target, chunks, replaces=if_none_match is None)
        arrived = stored.size
    finally:
        await upload.settle(arrived)
    set_location(response, f"/v1/sandboxes/{sandbox_id}/files?path={quote(stored.path)}")
    return UploadedFile.of(stored)


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
    responses={200: _FILE, **errors(404, 409, 502)},
)
async def download_file(sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State) -> StreamingResponse:
    """Stream a file, or pack a folder as a tar first. Names in the tar are relative to the folder.

    In a worker's sandbox, only its data owner and keys with the scope `data:export` can download.
    The audit log records each download. The whole file is sent, also to a request with `Range`.
    """
    target = check_path(path, "/path")
    node = await _authorize(state, caller, sandbox_id, "download", target)
    download = await state.provider.download(sandboxes.running_sandbox_id(node), target)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(download.filename, safe='')}"}
    if download.size is not None:
        headers["Content-Length"] = str(download.size)
    chunks = _activity(state, node).after_each(download.chunks)
    return StreamingResponse(chunks, media_type=download.media_type, headers=headers)


@router.get(
    "/{sandbox_id}/files/list",
    operation_id="list_files",
    summary="List the files of a folder",
    responses=errors(404, 409, 502),
)
async def list_files(sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State) -> FileList:
    """Return names, sizes and times, folders first.

    In a worker's sandbox, a key without the scope `data:export` sees what is below /data.
    """
    target = check_path(path, "/path")
    node = await _authorize(state, caller, sandbox_id, "list", target)
    return FileList.of(target, await state.provider.list_files(sandboxes.running_sandbox_id(node), target))


@router.delete(
    "/{sandbox_id}/files",
    operation_id="delete_file",
    summary="Delete a file or a folder",
    status_code=204,
    responses=errors(404, 409, 502),
)
async def delete_file(sandbox_id: SandboxId, path: FilePath, caller: DataWriter, state: State) -> None:
    """Delete a file, or a folder with its content.

    Uploaded bytes stay counted against the quota.
    """
    target = _file(path)
    node = await _authorize(state, caller, sandbox_id, "delete", target)
    name = shlex.quote(target)
    command = f"test -e {name} -o -L {name} || exit {_MISSING}; rm -rf -- {name}"
    result = await state.provider.run(sandboxes.running_sandbox_id(node), command, timeout_s=_DELETE_TIMEOUT_S, max_output=1000)
    if result.exit_code == _MISSING:
        raise SandboxFileNotFoundError(f"there is no file or folder at {target}")
    if result.exit_code != 0:
        raise SandboxError("the sandbox could not delete the file")


@router.post(
    "/{sandbox_id}/execute",
    operation_id="execute",
    summary="Run code in a sandbox",
    responses=errors(404, 409, 502, body=True),
)
async def execute(sandbox_id: SandboxId, body: ExecuteRequest, caller: Executor, state: State) -> ExecutionResult:
    """Run code in the template's language, or in `language`.

    The code is written to a file in the sandbox and run from it. The file is removed afterwards.
    Node takes both `require` and `import`.

    Time, output and memory are limited. `limit` names the limit that was reached.

    In a worker's sandbox, only its data owner and keys with the scope `data:export` can run code.
    """
    options = body.options()
    node = await _authorize(state, caller, sandbox_id, "execute")
    async with _activity(state, node).lasting():
        result = await state.provider.execute(
            sandboxes.running_sandbox_id(node),
            body.code,
            language=body.language,
            timeout_s=body.timeout_s or state.settings.execute_timeout_s,
            max_output=state.settings.execute_max_output,
            options=options,
        )
    if result.limit is not None:
        state.metrics.sandbox_limits.labels(result.limit).inc()
    return ExecutionResult.of(result)


@router.get(
    "/{sandbox_id}/logs", operation_id="get_logs", summary="Get a sandbox's last log lines", responses=errors(404, 409, 502)
)
async def get_logs(
    sandbox_id: SandboxId,
    caller: SandboxReader,
    state: State,
    lines: Annotated[
        int, Query(ge=1, le=10_000, description="The largest number of lines; the newest lines are returned.")
    ] = 100,
) -> Logs:
    """Return the output of the sandbox's processes, each line with its time and stream.

    The provider can keep fewer lines.
    """
    node = await state.run(lambda uow: sandboxes.resolve(uow.session, caller, sandbox_id), caller)
    log_lines = await state.provider.logs(sandboxes.running_sandbox_id(node), lines)
    return Logs.of(node.sandbox_id or "", list(log_lines))


def _activity(state: AppState, node: NodeRow) -> ClusterActivity:
    return ClusterActivity(state.use_cases, node.cluster_id)


async def _authorize(state: AppState, caller: Principal, sandbox_id: str, act: Act, path: str | None = None) -> NodeRow:
    """Check the caller's right, write it in the audit log, and return the node."""
    return await state.run(lambda uow: sandboxes.authorize(uow.session, caller, sandbox_id, act, path), caller)
