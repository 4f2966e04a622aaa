"""Events as JSON pages."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.http.auth import ClusterReader
from api.http.reading import Momentary, Reading
from api.routes.clusters import ClusterId
from api.routes.common import MOST_ITEMS, UNCHANGED, errors
from api.routes.event_parameters import EventSelection, Selection
from api.routes.trainings import TrainingId
from api.schemas.events.union import ClusterEventPage, page
from api.services import clusters, trainings
from api.store import events
from api.store.database import UnitOfWork

router = APIRouter(prefix="/v1", tags=["events"])
Limit = Annotated[int, Query(ge=1, le=1000, description=MOST_ITEMS)]


@router.get(
    "/clusters/{cluster_id}/events/page",
    operation_id="list_cluster_events",
    summary="List the events of a cluster",
    response_model=ClusterEventPage,
    responses={**UNCHANGED, **errors(404)},
)
async def list_cluster_events(
    cluster_id: ClusterId,
    caller: ClusterReader,
    reading: Reading,
    selection: Selection,
    limit: Limit = 100,
) -> Response:
    """Return the events after a number, the oldest first.

    Ask again with `next_after` for those that follow.
    """

    def read(uow: UnitOfWork) -> Momentary:
        row = clusters.get(uow.session, caller.project_id, cluster_id)
        return _page(uow, row.id, None, selection, limit)

    return await reading.answer(caller, cluster_id, read)


@router.get(
    "/trainings/{training_id}/events/page",
    operation_id="list_training_events",
    summary="List the events of a training",
    response_model=ClusterEventPage,
    responses={**UNCHANGED, **errors(404)},
)
async def list_training_events(
    training_id: TrainingId,
    caller: ClusterReader,
    reading: Reading,
    selection: Selection,
    limit: Limit = 100,
) -> Response:
    """Return the events of the training after a number, the oldest first.

    Ask again with `next_after` for those that follow.
    """

    def read(uow: UnitOfWork) -> Momentary:
        row = trainings.get(uow.session, caller.project_id, training_id)
        return _page(uow, row.cluster_id, row.id, selection, limit)

    return await reading.answer(caller, training_id, read)


def _page(uow: UnitOfWork, cluster_id: str, training_id: str | None, selection: EventSelection, limit: int) -> Momentary:
    """Return the page that a request selects. It is not kept: the next event changes it."""
    after = selection.after
    found = events.read(uow.session, cluster_id, after, training_id=training_id, types=selection.types, limit=limit)
    return Momentary(page(found, after), lasts_s=0)
