from typing import Annotated

from fastapi import APIRouter, Body, Response

from api.http.auth import ClusterReader, ClusterWriter
from api.http.deps import Pages, State
from api.http.reading import Momentary, Reading
from api.routes.common import LOCATION, UNCHANGED, answers, errors, held, path_id, set_location, to_page
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.schemas.base import Page
from api.schemas.clusters import Cluster, ClusterConnect, ClusterConnections, ClusterCreate, ClusterStatus
from api.services import clusters, progress
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow

router = APIRouter(prefix="/v1/clusters", tags=["clusters"])
ClusterId = Annotated[str, path_id("The id of a cluster.", "cls_9x7k3m2p")]


@router.post(
    "",
    operation_id="create_cluster",
    summary="Create a cluster",
    status_code=201,
    responses={**answers(201, "The cluster", LOCATION), **errors(409, body=True)},
)
async def create_cluster(
    body: ClusterCreate, caller: ClusterWriter, state: State, creation: Creation, response: Response
) -> Cluster:
    """Create an empty cluster. It costs nothing until nodes are deployed into it."""

    def create(uow: UnitOfWork) -> ClusterRow:
        return clusters.create(uow, state.settings, caller.project_id, body.spec())

    row = await creation.create(caller, ClusterRow, body, create)
    set_location(response, f"/v1/clusters/{row.id}")
    return Cluster.of(row)


@router.get(
    "",
    operation_id="list_clusters",
    summary="List clusters",
    response_model=Page[Cluster],
    responses={**UNCHANGED, **errors()},
)
async def list_clusters(caller: ClusterReader, reading: Reading, page_request: Pages) -> Response:
    """Return the newest clusters first. Terminated clusters are included."""

    def read(uow: UnitOfWork) -> Page[Cluster]:
        return to_page(clusters.page(uow.session, caller.project_id, page_request), Cluster.of)

    return await reading.answer(caller, caller.project_id, read)


@router.get(
    "/{cluster_id}",
    operation_id="get_cluster",
    summary="Get a cluster",
    response_model=Cluster,
    responses={**UNCHANGED, **errors(404)},
)
async def get_cluster(cluster_id: ClusterId, caller: ClusterReader, reading: Reading) -> Response:
    """Return the cluster's configuration and status."""

    def read(uow: UnitOfWork) -> Cluster:
        return Cluster.of(clusters.get(uow.session, caller.project_id, cluster_id))

    return await reading.answer(caller, cluster_id, read)


@router.post(
    "/{cluster_id}/connect",
    operation_id="connect_cluster",
    summary="Connect the running nodes in a topology",
    responses=errors(404, 409, body=True),
)
async def connect_cluster(
    cluster_id: ClusterId, caller: ClusterWriter, state: State, body: Annotated[ClusterConnect, Body()] = ClusterConnect()
) -> ClusterConnections:
    """Connect the running nodes. The topology decides who is connected with whom:

    - mesh: every pair of workers
    - ring: each worker with the next one
    - star: the aggregator with each worker
    - hierarchical: groups of about √n workers; the head of each group with the aggregator

    The call can be repeated between trainings, also with another topology.
    During a training it connects new nodes in the same topology. Workers join from the next round.
    """
    row = await state.run(lambda uow: clusters.connect(uow, caller.project_id, cluster_id, body.topology), caller)
    return ClusterConnections.of(row)


@router.get(
    "/{cluster_id}/connections",
    operation_id="get_cluster_connections",
    summary="Get the connections of a cluster",
    response_model=ClusterConnections,
    responses={**UNCHANGED, **errors(404)},
)
async def get_cluster_connections(cluster_id: ClusterId, caller: ClusterReader, reading: Reading) -> Response:
    """Return the connections that the last `connect_cluster` made. Before it there are none."""

    def read(uow: UnitOfWork) -> ClusterConnections:
        return ClusterConnections.of(clusters.get(uow.session, caller.project_id, cluster_id))

    return await reading.answer(caller, cluster_id, read)


@router.get(
    "/{cluster_id}/status",
    operation_id="get_cluster_status",
    summary="Watch trainings, nodes and cost",
    response_model=ClusterStatus,
    responses={**UNCHANGED, **errors(404)},
)
async def get_cluster_status(cluster_id: ClusterId, caller: ClusterReader, reading: Reading) -> Response:
    """Return trainings, nodes and cost. Every figure is measured, or null.

    The ETag covers the whole answer. So it changes each second while something in the cluster
    costs.
    """

    def read(uow: UnitOfWork) -> Momentary:
        view = progress.cluster_status(uow.session, caller.project_id, cluster_id)
        return Momentary(ClusterStatus.of(view), view.lasts_s)

    return await reading.answer(caller, cluster_id, read)


@router.post(
    "/{cluster_id}/terminate",
    operation_id="terminate_cluster",
    summary="Stop everything that costs",
    status_code=202,
    responses={**held(Cluster, "The cluster"), **errors(404)},
)
async def terminate_cluster(cluster_id: ClusterId, caller: ClusterWriter, state: State, waiting: Waiting) -> Cluster:
    """Stop the trainings and end every sandbox at its provider. It is safe to repeat the call."""
    row = await state.run(lambda uow: clusters.terminate(uow, caller.project_id, cluster_id), caller)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/clusters/{row.id}")
    return Cluster.of(row)
