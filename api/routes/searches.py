from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import AppState, IdempotencyKey, Pages, State, Wait
from api.routes.clusters import ClusterId
from api.routes.common import WAITED, answers, create_idempotent, errors, set_location, wait_until_settled
from api.schemas.base import Page
from api.schemas.searches import Search, SearchCreate, SearchStatus
from api.services import quotas, searches
from api.store.database import UnitOfWork
from api.store.tables import SearchRow

router = APIRouter(prefix="/v1", tags=["searches"])
SearchId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["search_k2j9x4m7q1"])]


@router.post(
    "/clusters/{cluster_id}/searches",
    operation_id="create_search",
    summary="Search for the best options of a training",
    status_code=202,
    responses={**answers(202, "The search", WAITED), **errors(404, 409, body=True)},
)
async def create_search(
    cluster_id: ClusterId,
    body: SearchCreate,
    caller: ClusterWriter,
    state: State,
    key: IdempotencyKey,
    wait: Wait,
    request: Request,
    response: Response,
) -> Search:
    """One training after the other, each an ordinary one. Until the search has ended, no other training can start in the
    cluster (409 search_active)."""
    spec = body.search_spec()

    def create(uow: UnitOfWork) -> SearchRow:
        quotas.claim(uow.session, state.settings, caller.project_id, spend_usd=0)
        return searches.create(uow, caller.project_id, cluster_id, spec)

    row = await create_idempotent(state, caller, request, key, body, create, searches.get)
    row = await wait_until_settled(state, caller, request, row, searches.get, wait)
    set_location(response, f"/v1/searches/{row.id}", wait)
    return await _shown(state, row)


@router.get("/searches", operation_id="list_searches", summary="List searches", responses=errors(404))
async def list_searches(
    caller: ClusterReader,
    state: State,
    paging: Pages,
    cluster_id: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="only this cluster's")] = None,
    status: Annotated[SearchStatus | None, Query(description="only those with this status")] = None,
) -> Page[Search]:
    """Newest first, finished ones included."""
    page = await state.work(
        lambda uow: searches.page(uow.session, caller.project_id, cluster_id, status, paging.limit, paging.after)
    )
    return Page(items=[Search.of(view) for view in page.items], next_cursor=page.next.encode() if page.next else None)


@router.get("/searches/{search_id}", operation_id="get_search", summary="Get a search", responses=errors(404))
async def get_search(search_id: SearchId, caller: ClusterReader, state: State) -> Search:
    """Its trainings with what was measured of each, and the best of them."""
    return await _shown(state, await state.work(lambda uow: searches.get(uow.session, caller.project_id, search_id)))


@router.post(
    "/searches/{search_id}/stop",
    operation_id="stop_search",
    summary="Stop a search",
    status_code=202,
    responses={**answers(202, "Stopping, or already ended", WAITED), **errors(404)},
)
async def stop_search(
    search_id: SearchId, caller: ClusterWriter, state: State, wait: Wait, request: Request, response: Response
) -> Search:
    """The training in hand is stopped, the others do not begin; what was measured stays. Safe to ask twice."""
    row = await state.work(lambda uow: searches.stop(uow, caller.project_id, search_id), caller)
    row = await wait_until_settled(state, caller, request, row, searches.get, wait)
    set_location(response, f"/v1/searches/{row.id}", wait)
    return await _shown(state, row)


async def _shown(state: AppState, row: SearchRow) -> Search:
    return Search.of(await state.work(lambda uow: searches.view(uow.session, row)))
