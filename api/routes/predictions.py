from typing import Annotated

from fastapi import APIRouter, Path

from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import State
from api.routes.clusters import ClusterId
from api.routes.common import WAITED, answers, errors
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.schemas.predictions import Prediction, PredictionCreate
from api.services import predictions
from api.store.database import UnitOfWork
from api.store.tables import PredictionRow

router = APIRouter(prefix="/v1", tags=["predictions"])
PredictionId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["pred_ens_ij012"])]


@router.post(
    "/clusters/{cluster_id}/predictions",
    operation_id="predict",
    summary="Predict with all nodes together",
    status_code=202,
    responses={
        **answers(202, "The prediction, pending", WAITED),
        200: {"description": "The prediction, completed", "model": Prediction, "headers": WAITED},
        **errors(404, 409, 502, body=True),
    },
)
async def predict(
    cluster_id: ClusterId,
    body: PredictionCreate,
    caller: ClusterWriter,
    creation: Creation,
    waiting: Waiting,
) -> Prediction:
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
    if row.status == "completed":
        waiting.response.status_code = 200
    return Prediction.of(row)


@router.post(
    "/predictions/{prediction_id}/cancel",
    operation_id="cancel_prediction",
    summary="Cancel a prediction",
    responses=errors(404),
)
async def cancel_prediction(prediction_id: PredictionId, caller: ClusterWriter, state: State) -> Prediction:
    """Give up a pending prediction. It is safe to repeat the call, and an ended one stays as it is."""
    return Prediction.of(await state.run(lambda uow: predictions.cancel(uow, caller.project_id, prediction_id), caller))


@router.get("/predictions/{prediction_id}", operation_id="get_prediction", summary="Get a prediction", responses=errors(404))
async def get_prediction(prediction_id: PredictionId, caller: ClusterReader, state: State) -> Prediction:
    """Return the prediction. `results` is null until it is completed.

    With labelled input there are accuracy, precision, recall and F1 (macro).
    """
    return Prediction.of(await state.run(lambda uow: predictions.get(uow.session, caller.project_id, prediction_id)))
