from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import IdempotencyKey, State, Wait
from api.routes.clusters import ClusterId
from api.routes.common import WAITED, answers, create_idempotent, errors, set_location, wait_until_settled
from api.schemas.predictions import Prediction, PredictionCreate
from api.services import predictions

router = APIRouter(prefix="/v1", tags=["predictions"])
PredictionId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["pred_ens_ij012"])]


@router.post(
    "/clusters/{cluster_id}/predictions",
    operation_id="predict",
    summary="Predict with all nodes together",
    status_code=202,
    responses={
        **answers(202, "The prediction, pending or failed", WAITED),
        200: {"description": "The prediction, completed", "model": Prediction, "headers": WAITED},
        **errors(404, 409, body=True),
    },
)
async def predict(
    cluster_id: ClusterId,
    body: PredictionCreate,
    caller: ClusterWriter,
    state: State,
    key: IdempotencyKey,
    wait: Wait,
    request: Request,
    response: Response,
) -> Prediction:
    """The texts are split over the workers; `aggregation` says how their answers become one."""
    spec = body.spec()
    row = await create_idempotent(
        state,
        caller,
        request,
        key,
        body,
        lambda uow: predictions.start(uow, caller.project_id, cluster_id, spec),
        predictions.get,
    )
    row = await wait_until_settled(state, caller, request, row, predictions.get, wait)
    set_location(response, f"/v1/predictions/{row.id}", wait)
    if row.status == "completed":
        response.status_code = 200
    return Prediction.of(row)


@router.get("/predictions/{prediction_id}", operation_id="get_prediction", summary="Get a prediction", responses=errors(404))
async def get_prediction(prediction_id: PredictionId, caller: ClusterReader, state: State) -> Prediction:
    """`results` is null until it is completed; with labelled input it has accuracy, precision, recall and F1 (macro)."""
    return Prediction.of(await state.work(lambda uow: predictions.get(uow.session, caller.project_id, prediction_id)))
