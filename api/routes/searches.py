from typing import Annotated

from fastapi import APIRouter, Query

from api.domain.status import SearchState
from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import AppState, Pages, State
from api.routes.clusters import ClusterId
from api.routes.common import errors, held, path_id, to_page
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.schemas.base import Page
from api.schemas.searches import Search, SearchCreate
from api.services import quotas, searches
from api.store.database import UnitOfWork
from api.store.tables import SearchRow

router = APIRouter(prefix="/v1", tags=["searches"])
SearchId = Annotated[str, path_id("The id of a search.", "search_k2j9x4m7q1")]


@router.post(
    "/clusters/{cluster_id}/searches",
    operation_id="create_search",
    summary="Search for the best options of a training",
    status_code=202,
    responses={**held(Search, "The search"), **errors(404, 409, body=True)},
)
async def create_search(
    cluster_id: ClusterId,
    body: SearchCreate,
    caller: ClusterWriter,
    state: State,
    creation: Creation,
    waiting: Waiting,
) -> Search:
    """Run ordinary trainings, one after the other.

    No other training can start in the cluster until the search has ended (409 `search_active`).
    """
    spec = body.search_spec()

    def create(uow: UnitOfWork) -> SearchRow:
        quotas.claim(uow.session, state.settings, caller.project_id, spend_usd=0)
        return searches.create(uow, caller.project_id, cluster_id, spec)

    row = await creation.create(caller, SearchRow, body, create)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/searches/{row.id}")
    return await _shown(state, row)


@router.get("/searches", operation_id="list_searches", summary="List searches", responses=errors(404))
async def list_searches(
    caller: ClusterReader,
    state: State,
    page_request: Pages,
    cluster_id: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="Only searches of this cluster.")
    ] = None,
    status: Annotated[SearchState | None, Query(description="Only searches with this status.")] = None,
) -> Page[Search]:
    """Return the newest searches first. Ended searches are included."""
    page = await state.run(lambda uow: searches.page(uow.session, caller.project_id, cluster_id, status, page_request))
    return to_page(page, Search.of)


@router.get("/searches/{search_id}", operation_id="get_search", summary="Get a search", responses=errors(404))
async def get_search(search_id: SearchId, caller: ClusterReader, state: State) -> Search:
    """Return the search's trainings with their measured metric, and the best training."""
    return await _shown(state, await state.run(lambda uow: searches.get(uow.session, caller.project_id, search_id)))


@router.post(
    "/searches/{search_id}/stop",
    operation_id="stop_search",
    summary="Stop a search",
    status_code=202,
    responses={**held(Search, "The search"), **errors(404)},
)
async def stop_search(search_id: SearchId, caller: ClusterWriter, state: State, waiting: Waiting) -> Search:
    """Stop the current training and start no further ones.

    Measured results are kept. It is safe to repeat the call.
    """
    row = await state.run(lambda uow: searches.stop(uow, caller.project_id, search_id), caller)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/searches/{row.id}")
    return await _shown(state, row)


async def _shown(state: AppState, row: SearchRow) -> Search:
    return Search.of(await state.run(lambda uow: searches.view(uow.session, row)))
