from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from api.domain.errors import ConflictError, DomainError, InvalidError
from api.domain.records import FailureReason
from api.domain.status import ENDED_TRAINING
from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import Pages, PositionCursor, State
from api.http.reading import Momentary, Reading
from api.routes.clusters import ClusterId
from api.routes.common import MOST_ITEMS, UNCHANGED, errors, held, path_id, to_page
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.schemas.base import Page
from api.schemas.curves import Curves
from api.schemas.trainings import Training, TrainingCreate, TrainingResume, TrainingRound, TrainingRoundPage
from api.services import curves, quotas, trainings
from api.store.database import UnitOfWork
from api.store.tables import TrainingRow

router = APIRouter(prefix="/v1", tags=["trainings"])
TrainingId = Annotated[str, path_id("The id of a training.", "train_fed_gh789")]


@router.post(
    "/clusters/{cluster_id}/trainings",
    operation_id="start_training",
    summary="Start a federated training",
    status_code=202,
    responses={**held(Training, "The training"), **errors(404, 409, body=True)},
)
async def start_training(
    cluster_id: ClusterId,
    body: TrainingCreate,
    caller: ClusterWriter,
    state: State,
    creation: Creation,
    waiting: Waiting,
) -> Training:
    """Check every worker's data in its own sandbox, then start the first round.

    Data that cannot be trained on is refused here, with the node and the reason.
    """
    spec = body.spec()

    def start(uow: UnitOfWork) -> TrainingRow:
        quotas.claim(uow.session, state.settings, caller.project_id, spend_usd=0)
        return trainings.start(uow, caller.project_id, cluster_id, spec)

    row = await creation.create(caller, TrainingRow, body, start)
    row = await waiting.wait_until_settled(caller, row, at_least_s=state.settings.training_check_wait_s)
    if row.status == "refused":
        await creation.forget(caller, row)
        raise _refusal(row)
    waiting.set_location(f"/v1/trainings/{row.id}")
    return Training.of(row)


def _refusal(row: TrainingRow) -> DomainError:
    reason = row.error or FailureReason(code="refused", detail="The training was refused.")
    kind = ConflictError if reason.status == HTTPStatus.CONFLICT else InvalidError
    return kind(reason.code, reason.detail, errors=reason.errors)


@router.get(
    "/trainings",
    operation_id="list_trainings",
    summary="List trainings",
    response_model=Page[Training],
    responses={**UNCHANGED, **errors(404)},
)
async def list_trainings(
    caller: ClusterReader,
    reading: Reading,
    page_request: Pages,
    cluster_id: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="Only trainings of this cluster.")
    ] = None,
) -> Response:
    """Return the newest trainings first. Ended trainings are included."""

    def read(uow: UnitOfWork) -> Page[Training]:
        return to_page(trainings.page(uow.session, caller.project_id, cluster_id, page_request), Training.of)

    return await reading.answer(caller, cluster_id or caller.project_id, read)


@router.get(
    "/trainings/{training_id}",
    operation_id="get_training",
    summary="Get a training",
    response_model=Training,
    responses={**UNCHANGED, **errors(404)},
)
async def get_training(training_id: TrainingId, caller: ClusterReader, reading: Reading) -> Response:
    """Return configuration, nodes, status, epoch, metrics and the time left.

    The rounds have the figures of each worker.
    """

    def read(uow: UnitOfWork) -> Training:
        return Training.of(trainings.get(uow.session, caller.project_id, training_id))

    return await reading.answer(caller, training_id, read)


@router.get(
    "/trainings/{training_id}/rounds",
    operation_id="list_rounds",
    summary="List a training's rounds",
    response_model=TrainingRoundPage,
    responses={**UNCHANGED, **errors(404)},
)
async def list_rounds(
    training_id: TrainingId,
    caller: ClusterReader,
    reading: Reading,
    limit: Annotated[int, Query(ge=1, le=1000, description=MOST_ITEMS)] = 100,
    cursor: PositionCursor = None,
) -> Response:
    """Return the oldest rounds first, each with its workers' figures."""

    def read(uow: UnitOfWork) -> TrainingRoundPage:
        rounds = trainings.rounds(uow.session, caller.project_id, training_id, limit + 1, int(cursor or 0))
        items = [TrainingRound.of(row, nodes) for row, nodes in rounds[:limit]]
        return TrainingRoundPage(items=items, next_cursor=str(items[-1].round) if len(rounds) > limit else None)

    return await reading.answer(caller, training_id, read)


@router.get(
    "/trainings/{training_id}/curves",
    operation_id="get_training_curves",
    summary="Get a training's curves",
    response_model=Curves,
    responses={**UNCHANGED, **errors(404)},
)
async def get_training_curves(
    training_id: TrainingId,
    caller: ClusterReader,
    reading: Reading,
    after: Annotated[int, Query(ge=0, le=10**9, description="Only rounds with a larger number.")] = 0,
) -> Response:
    """Return the figures of completed rounds as one list for each figure, for charts.

    It is several times smaller than `list_rounds`, which also has votes, audits, transfers and
    decisions.
    """

    def read(uow: UnitOfWork) -> Momentary:
        view = curves.view(uow.session, caller.project_id, training_id, after)
        # It is not kept: its costs also change with the nodes, and they do not announce a training.
        return Momentary(Curves.of(view, curves.MOST_ROUNDS), lasts_s=0)

    return await reading.answer(caller, training_id, read)


@router.post(
    "/trainings/{training_id}/stop",
    operation_id="stop_training",
    summary="Stop a training",
    status_code=202,
    responses={**held(Training, "The training"), **errors(404)},
)
async def stop_training(training_id: TrainingId, caller: ClusterWriter, state: State, waiting: Waiting) -> Training:
    """Give up the current round and keep the last completed one. It is safe to repeat the call."""
    row = await state.run(lambda uow: trainings.stop(uow, caller.project_id, training_id), caller)
    row = await waiting.wait_until_settled(caller, row, statuses=ENDED_TRAINING)
    waiting.set_location(f"/v1/trainings/{row.id}")
    return Training.of(row)


@router.post(
    "/trainings/{training_id}/resume",
    operation_id="resume_training",
    summary="Resume or extend a training",
    status_code=202,
    responses={**held(Training, "The training"), **errors(404, 409, body=True)},
)
async def resume_training(
    training_id: TrainingId,
    caller: ClusterWriter,
    state: State,
    creation: Creation,
    waiting: Waiting,
    body: Annotated[TrainingResume, Body(default_factory=TrainingResume)],
) -> Training:
    """Continue with the workers that run now. Completed rounds are not trained again.

    A stopped or failed training continues to its planned end. With `epochs`, it trains so many
    more, and so does a completed one.
    """

    def resume(uow: UnitOfWork) -> TrainingRow:
        quotas.claim(uow.session, state.settings, caller.project_id, spend_usd=0)
        return trainings.resume(uow, caller.project_id, training_id, body.epochs)

    row = await creation.create(caller, TrainingRow, body, resume)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/trainings/{row.id}")
    return Training.of(row)
