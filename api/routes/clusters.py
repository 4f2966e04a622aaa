from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response

from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import IdempotencyKey, Pages, State, Wait
from api.routes.common import LOCATION, WAITED, answers, create_idempotent, errors, set_location, wait_until_settled
from api.schemas.base import Page
from api.schemas.clusters import Cluster, ClusterConnect, ClusterCreate, ClusterStatus, Connections
from api.services import clusters, progress

router = APIRouter(prefix="/v1/clusters", tags=["clusters"])
ClusterId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["cls_9x7k3m2p"])]


@router.post(
    "",
    operation_id="create_cluster",
    summary="Create a cluster",
    status_code=201,
    responses={**answers(201, "The cluster", LOCATION), **errors(409, body=True)},
)
async def create_cluster(
    body: ClusterCreate, caller: ClusterWriter, state: State, key: IdempotencyKey, request: Request, response: Response
) -> Cluster:
    """Costs nothing until nodes are deployed into it."""
    row = await create_idempotent(
        state,
        caller,
        request,
        key,
        body,
        lambda uow: clusters.create(uow, state.settings, caller.project_id, body.spec()),
        clusters.get,
    )
    set_location(response, f"/v1/clusters/{row.id}")
    return Cluster.of(row)


@router.get("", operation_id="list_clusters", summary="List clusters", responses=errors())
async def list_clusters(caller: ClusterReader, state: State, paging: Pages) -> Page[Cluster]:
    """Newest first, terminated ones included."""
    page = await state.work(lambda uow: clusters.page(uow.session, caller.project_id, paging.limit, paging.after))
    return Page(items=[Cluster.of(row) for row in page.items], next_cursor=page.next.encode() if page.next else None)


@router.get("/{cluster_id}", operation_id="get_cluster", summary="Get a cluster", responses=errors(404))
async def get_cluster(cluster_id: ClusterId, caller: ClusterReader, state: State) -> Cluster:
    """What it was created with, and its status."""
    return Cluster.of(await state.work(lambda uow: clusters.get(uow.session, caller.project_id, cluster_id)))


@router.post(
    "/{cluster_id}/connect",
    operation_id="connect_cluster",
    summary="Connect the running nodes in a topology",
    responses=errors(404, 409, body=True),
)
async def connect_cluster(
    cluster_id: ClusterId, caller: ClusterWriter, state: State, body: Annotated[ClusterConnect, Body()] = ClusterConnect()
) -> Connections:
    """Mesh: every pair of workers. Ring: each to the next. Star: the aggregator to each. Hierarchical: groups of about √n,
    their heads to the aggregator. May be asked again between trainings, also for another topology."""
    row = await state.work(lambda uow: clusters.connect(uow, caller.project_id, cluster_id, body.topology), caller)
    return Connections.of(row)


@router.get(
    "/{cluster_id}/status",
    operation_id="get_cluster_status",
    summary="Watch trainings, nodes and cost",
    responses=errors(404),
)
async def get_cluster_status(cluster_id: ClusterId, caller: ClusterReader, state: State) -> ClusterStatus:
    """Every figure is measured, or null."""
    return await state.work(lambda uow: ClusterStatus.of(progress.cluster_status(uow.session, caller.project_id, cluster_id)))


@router.post(
    "/{cluster_id}/terminate",
    operation_id="terminate_cluster",
    summary="Stop everything that costs",
    status_code=202,
    responses={**answers(202, "Terminating, or terminated", WAITED), **errors(404)},
)
async def terminate_cluster(
    cluster_id: ClusterId, caller: ClusterWriter, state: State, wait: Wait, request: Request, response: Response
) -> Cluster:
    """Stops trainings and ends every sandbox at its provider. Safe to ask twice."""
    row = await state.work(lambda uow: clusters.terminate(uow, caller.project_id, cluster_id), caller)
    row = await wait_until_settled(state, caller, request, row, clusters.get, wait)
    set_location(response, f"/v1/clusters/{row.id}", wait)
    return Cluster.of(row)
