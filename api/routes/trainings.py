from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.domain.errors import ConflictError, DomainError, InvalidError
from api.domain.records import FailureReason
from api.domain.status import ENDED_TRAINING
from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import IdempotencyKey, Pages, State, Wait
from api.routes.clusters import ClusterId
from api.routes.common import WAITED, answers, create_idempotent, errors, set_location, wait_until_settled
from api.schemas.base import Page
from api.schemas.trainings import Round, RoundList, Training, TrainingCreate
from api.services import idempotency, quotas, trainings
from api.store.database import UnitOfWork
from api.store.tables import TrainingRow

router = APIRouter(prefix="/v1", tags=["trainings"])
TrainingId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["train_fed_gh789"])]


@router.post(
    "/clusters/{cluster_id}/trainings",
    operation_id="start_training",
    summary="Start a federated training",
    status_code=202,
    responses={**answers(202, "The training", WAITED), **errors(404, 409, body=True)},
)
async def start_training(
    cluster_id: ClusterId,
    body: TrainingCreate,
    caller: ClusterWriter,
    state: State,
    key: IdempotencyKey,
    wait: Wait,
    request: Request,
    response: Response,
) -> Training:
    """Every worker's data is checked where it lies before the first round; what cannot be trained on is refused here, with
    the node and the reason."""
    spec = body.spec()

    def start(uow: UnitOfWork) -> TrainingRow:
        quotas.claim(uow.session, state.settings, caller.project_id, spend_usd=0)
        return trainings.start(uow, caller.project_id, cluster_id, spec)

    row = await create_idempotent(state, caller, request, key, body, start, trainings.get)
    row = await wait_until_settled(state, caller, request, row, trainings.get, max(wait, state.settings.training_check_wait_s))
    if row.status == "refused":
        if key is not None:
            await state.work(lambda uow: idempotency.forget(uow, caller.project_id, key, row.id))
        raise _refusal(row)
    set_location(response, f"/v1/trainings/{row.id}", wait)
    return Training.of(row)


def _refusal(row: TrainingRow) -> DomainError:
    reason = row.error or FailureReason(code="refused", detail="The training was refused.")
    kind = ConflictError if reason.status == HTTPStatus.CONFLICT else InvalidError
    return kind(reason.code, reason.detail, errors=reason.errors)


@router.get("/trainings", operation_id="list_trainings", summary="List trainings", responses=errors(404))
async def list_trainings(
    caller: ClusterReader,
    state: State,
    paging: Pages,
    cluster_id: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="only this cluster's")] = None,
) -> Page[Training]:
    """Newest first, finished ones included; `cluster_id` narrows them to one cluster."""
    page = await state.work(lambda uow: trainings.page(uow.session, caller.project_id, cluster_id, paging.limit, paging.after))
    return Page(items=[Training.of(row) for row in page.items], next_cursor=page.next.encode() if page.next else None)


@router.get("/trainings/{training_id}", operation_id="get_training", summary="Get a training", responses=errors(404))
async def get_training(training_id: TrainingId, caller: ClusterReader, state: State) -> Training:
    """Its configuration, members and status; for figures see the rounds or the cluster's status."""
    return Training.of(await state.work(lambda uow: trainings.get(uow.session, caller.project_id, training_id)))


@router.get(
    "/trainings/{training_id}/rounds", operation_id="list_rounds", summary="List a training's rounds", responses=errors(404)
)
async def list_rounds(
    training_id: TrainingId,
    caller: ClusterReader,
    state: State,
    limit: Annotated[int, Query(ge=1, le=1000, description="rounds on a page")] = 100,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,9}$", description="`next_cursor` of the page before")] = None,
) -> RoundList:
    """By number, oldest first, each with its workers' figures."""
    found = await state.work(
        lambda uow: trainings.rounds(uow.session, caller.project_id, training_id, limit + 1, int(cursor or 0))
    )
    more = len(found) > limit
    items = [Round.of(row, nodes) for row, nodes in found[:limit]]
    return RoundList(items=items, next_cursor=str(items[-1].round) if more else None)


@router.post(
    "/trainings/{training_id}/stop",
    operation_id="stop_training",
    summary="Stop a training",
    status_code=202,
    responses={**answers(202, "Stopping, or already ended", WAITED), **errors(404)},
)
async def stop_training(
    training_id: TrainingId, caller: ClusterWriter, state: State, wait: Wait, request: Request, response: Response
) -> Training:
    """The round in hand is given up; what was averaged before stays. Safe to ask twice."""
    row = await state.work(lambda uow: trainings.stop(uow, caller.project_id, training_id), caller)
    row = await wait_until_settled(state, caller, request, row, trainings.get, wait, ENDED_TRAINING)
    set_location(response, f"/v1/trainings/{row.id}", wait)
    return Training.of(row)


@router.post(
    "/trainings/{training_id}/resume",
    operation_id="resume_training",
    summary="Resume a stopped or failed training",
    status_code=202,
    responses={**answers(202, "Going on after its last completed round", WAITED), **errors(404, 409)},
)
async def resume_training(
    training_id: TrainingId,
    caller: ClusterWriter,
    state: State,
    key: IdempotencyKey,
    wait: Wait,
    request: Request,
    response: Response,
) -> Training:
    """With the workers that run now; epochs that were averaged before are not trained again."""

    def resume(uow: UnitOfWork) -> TrainingRow:
        quotas.claim(uow.session, state.settings, caller.project_id, spend_usd=0)
        return trainings.resume(uow, caller.project_id, training_id)

    row = await create_idempotent(state, caller, request, key, None, resume, trainings.get)
    row = await wait_until_settled(state, caller, request, row, trainings.get, wait)
    set_location(response, f"/v1/trainings/{row.id}", wait)
    return Training.of(row)
