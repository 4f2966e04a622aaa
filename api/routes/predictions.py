from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import AppState, PositionCursor, State
from api.http.json_stream import json_pieces, round_numbers
from api.routes.clusters import ClusterId
from api.routes.common import errors, held, path_id
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.schemas.predictions import PredictedText, PredictedTextPage, Prediction, PredictionCreate
from api.services import predictions
from api.store.database import UnitOfWork
from api.store.tables import PredictionRow

router = APIRouter(prefix="/v1", tags=["predictions"])
_TEXTS: Final = '"predictions":'
_NO_TEXTS: Final = _TEXTS + "[]"
PredictionId = Annotated[str, path_id("The id of a prediction.", "pred_ens_ij012")]


@router.post(
    "/clusters/{cluster_id}/predictions",
    operation_id="predict",
    summary="Predict with all nodes together",
    response_model=Prediction,
    status_code=202,
    responses={**held(Prediction, "The prediction"), **errors(404, 409, 502, body=True)},
)
async def predict(
    cluster_id: ClusterId,
    body: PredictionCreate,
    caller: ClusterWriter,
    state: State,
    creation: Creation,
    waiting: Waiting,
) -> Response:
    """Split the texts over the workers. `aggregation` says how their answers are combined.

    A prediction that failed while the client waited (`Prefer: wait`) is answered with a problem.
    Its `code` and `detail` are those of the prediction's `error`, and `Location` names it.
    """
    spec = body.spec()

    def start(uow: UnitOfWork) -> PredictionRow:
        return predictions.start(uow, caller.project_id, cluster_id, spec)

    row = await creation.create(caller, PredictionRow, body, start)
    row = await waiting.wait_until_settled(caller, row)
    waiting.raise_if_failed(row, f"/v1/predictions/{row.id}")
    waiting.set_location(f"/v1/predictions/{row.id}")
    return await _large_answer(state, row, waiting.response.status_code or HTTPStatus.ACCEPTED, dict(waiting.response.headers))


@router.post(
    "/predictions/{prediction_id}/cancel",
    operation_id="cancel_prediction",
    summary="Cancel a prediction",
    response_model=Prediction,
    responses=errors(404),
)
async def cancel_prediction(prediction_id: PredictionId, caller: ClusterWriter, state: State) -> Response:
    """Give up a pending prediction.

    It is safe to repeat the call, and an ended one stays as it is.
    """
    row = await state.run(lambda uow: predictions.cancel(uow, caller.project_id, prediction_id), caller)
    return await _large_answer(state, row, 200, {})


@router.get(
    "/predictions/{prediction_id}",
    operation_id="get_prediction",
    summary="Get a prediction",
    response_model=Prediction,
    responses=errors(404),
)
async def get_prediction(prediction_id: PredictionId, caller: ClusterReader, state: State) -> Response:
    """Return the prediction. `results` is null until it is completed.

    With labelled input there are accuracy, precision, recall and F1 (macro). The answer for many
    texts is large; `list_predicted_texts` has them in pages.
    """
    row = await state.run(lambda uow: predictions.get(uow.session, caller.project_id, prediction_id))
    return await _large_answer(state, row, 200, {})


@router.get(
    "/predictions/{prediction_id}/texts",
    operation_id="list_predicted_texts",
    summary="List a prediction's texts",
    responses=errors(404, 409),
)
async def list_predicted_texts(
    prediction_id: PredictionId,
    caller: ClusterReader,
    state: State,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Texts on a page.")] = 1000,
    cursor: PositionCursor = None,
) -> PredictedTextPage:
    """Return the texts with their labels, in the order of the input."""
    after = int(cursor or 0)
    page = await state.run(lambda uow: predictions.texts(uow.session, caller.project_id, prediction_id, limit + 1, after))
    items = [PredictedText.model_validate(item) for item in page[:limit]]
    return PredictedTextPage(items=items, next_cursor=str(after + limit) if len(page) > limit else None)


async def _large_answer(state: AppState, row: PredictionRow, status: int, headers: dict[str, str]) -> Response:
    """Return a prediction as a stream. Its texts go from the database to the client unparsed.

    So the answer for 300,000 texts delays no other request.
    """
    stored = await state.run(lambda uow: predictions.results(uow.session, row))
    head = Prediction.of(row, stored.figures).model_dump_json()
    # A text cannot have these bytes: JSON escapes the quotes inside a text.
    before, marker, after = head.partition(_NO_TEXTS)
    if not marker:
        return Response(head, status, headers, "application/json")

    async def pieces() -> AsyncIterator[str]:
        yield before + _TEXTS
        for piece in json_pieces(stored.texts):
            yield await anyio.to_thread.run_sync(round_numbers, piece)
        yield after

    return StreamingResponse(pieces(), status, headers, "application/json")
