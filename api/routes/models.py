from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import FileResponse

from api.domain.errors import ConflictError
from api.http.auth import ClusterWriter, ModelReader
from api.http.deps import Pages, State
from api.http.ranges import check_range
from api.routes.common import BINARY, ETAG, OCTET_STREAM, errors, held, path_id, to_page
from api.routes.creation import Creation
from api.routes.trainings import TrainingId
from api.routes.waiting import Waiting
from api.schemas.base import Page
from api.schemas.models import ExportCreate, Model
from api.services import models
from api.store.database import UnitOfWork
from api.store.tables import ModelRow

router = APIRouter(prefix="/v1", tags=["models"])
_WHOLE = {"ETag": ETAG, "Accept-Ranges": {"description": "`bytes`", "schema": {"type": "string"}}}
_PART = {"Content-Range": {"description": "`bytes FIRST-LAST/SIZE`", "schema": {"type": "string"}}}
Range = Annotated[
    str | None,
    Header(alias="Range", description="`bytes=1000-` for the rest after the first 1,000 bytes (RFC 9110). One range."),
]
ModelId = Annotated[str, path_id("The id of an exported model.", "mdl_4k2j9x")]


@router.post(
    "/trainings/{training_id}/exports",
    operation_id="export_model",
    summary="Export the newest global model",
    status_code=202,
    responses={**held(Model, "The model"), **errors(404, 409, 502, body=True)},
)
async def export_model(
    training_id: TrainingId,
    body: ExportCreate,
    caller: ClusterWriter,
    creation: Creation,
    waiting: Waiting,
) -> Model:
    """Write the model to `/export/<name>` in the aggregator's sandbox, as a Hugging Face folder.

    The control plane keeps a copy, also after the cluster is terminated.
    An export that failed while the client waited (`Prefer: wait`) is answered with a problem.
    """

    def create(uow: UnitOfWork) -> ModelRow:
        return models.export(uow, caller.project_id, training_id, body.name)

    row = await creation.create(caller, ModelRow, body, create)
    row = await waiting.wait_until_settled(caller, row)
    waiting.raise_if_failed(row, f"/v1/models/{row.id}")
    waiting.set_location(f"/v1/models/{row.id}")
    return Model.of(row)


@router.post("/models/{model_id}/cancel", operation_id="cancel_export", summary="Cancel an export", responses=errors(404))
async def cancel_export(model_id: ModelId, caller: ClusterWriter, state: State) -> Model:
    """Give up a pending export. It is safe to repeat the call, and an ended one stays as it is."""
    return Model.of(await state.run(lambda uow: models.cancel(uow, caller.project_id, model_id), caller))


@router.get("/models", operation_id="list_models", summary="List exported models", responses=errors())
async def list_models(caller: ModelReader, state: State, page_request: Pages) -> Page[Model]:
    """Return the newest models first, also those of terminated clusters."""
    page = await state.run(lambda uow: models.page(uow.session, caller.project_id, page_request))
    return to_page(page, Model.of)


@router.get("/models/{model_id}", operation_id="get_model", summary="Get an exported model", responses=errors(404))
async def get_model(model_id: ModelId, caller: ModelReader, state: State) -> Model:
    """Return the model with its files, their sizes and digests."""
    return Model.of(await state.run(lambda uow: models.get(uow.session, caller.project_id, model_id)))


@router.get(
    "/models/{model_id}/download",
    operation_id="download_model",
    summary="Download an exported model",
    response_class=FileResponse,
    responses={
        200: {"description": "A tar of the model's folder", "content": BINARY, "headers": _WHOLE},
        206: {"description": "The bytes of the `Range`", "content": BINARY, "headers": _PART},
        **errors(404, 409, 416),
    },
)
async def download_model(
    model_id: ModelId, caller: ModelReader, state: State, request: Request, _range: Range = None
) -> FileResponse:
    """Return the model's files as a tar, also after the cluster was terminated.

    The `ETag` has the SHA-256 of the tar.
    """
    row = await state.run(lambda uow: models.get(uow.session, caller.project_id, model_id), caller)
    archive = models.downloadable(state.settings, row)
    if not archive.is_file():
        raise ConflictError("archive_missing", "The model's archive is no longer in the models folder.")
    check_range(request, archive.stat().st_size)
    headers = {"ETag": f'"{row.sha256}"'}
    return FileResponse(archive, media_type=OCTET_STREAM, filename=f"{row.name}.tar", headers=headers)
