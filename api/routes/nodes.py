from typing import Annotated

from fastapi import APIRouter

from api.domain.status import ENDED_NODE
from api.http.auth import ClusterReader, ClusterWriter, SandboxReader
from api.http.deps import Pages, State
from api.routes.clusters import ClusterId
from api.routes.common import errors, held, path_id, to_page
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.schemas.base import Page
from api.schemas.nodes import Node, NodeDeploy, NodeRound, NodeRounds
from api.services import nodes
from api.store.database import UnitOfWork
from api.store.tables import NodeRow

router = APIRouter(prefix="/v1", tags=["nodes"])
_MOST_ROUNDS = 100
NodeId = Annotated[str, path_id("The id of a node.", "node_w1_abc123")]


@router.post(
    "/clusters/{cluster_id}/nodes",
    operation_id="deploy_node",
    summary="Deploy a node in its own sandbox",
    status_code=202,
    responses={**held(Node, "The node"), **errors(404, 409, body=True)},
)
async def deploy_node(
    cluster_id: ClusterId,
    body: NodeDeploy,
    caller: ClusterWriter,
    state: State,
    creation: Creation,
    waiting: Waiting,
) -> Node:
    """Start a sandbox for the node.

    With `Prefer: wait=120` the answer is held until the node's agent runs.
    """

    def deploy(uow: UnitOfWork) -> NodeRow:
        return nodes.deploy(uow, state.settings, caller.project_id, cluster_id, body.spec())

    row = await creation.create(caller, NodeRow, body, deploy)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/nodes/{row.id}")
    return Node.of(row)


@router.get("/clusters/{cluster_id}/nodes", operation_id="list_nodes", summary="List a cluster's nodes", responses=errors(404))
async def list_nodes(cluster_id: ClusterId, caller: ClusterReader, state: State, page_request: Pages) -> Page[Node]:
    """Return the newest nodes first. Terminated nodes are included."""
    page = await state.run(lambda uow: nodes.page(uow.session, caller.project_id, cluster_id, page_request))
    return to_page(page, Node.of)


@router.get("/nodes/{node_id}", operation_id="get_node", summary="Get a node", responses=errors(404))
async def get_node(node_id: NodeId, caller: ClusterReader, state: State) -> Node:
    """Return the node.

    `resources` is null until its agent has measured them. `error` says why it failed or was lost.
    """
    return Node.of(await state.run(lambda uow: nodes.get(uow.session, caller.project_id, node_id)))


@router.get(
    "/nodes/{node_id}/rounds",
    operation_id="list_node_rounds",
    summary="List a worker's last rounds",
    responses=errors(404),
)
async def list_node_rounds(node_id: NodeId, caller: SandboxReader, state: State) -> NodeRounds:
    """Return the worker's own losses, samples and times.

    A data owner may see only this of a training.
    """
    rounds = await state.run(lambda uow: nodes.rounds(uow.session, caller, node_id, _MOST_ROUNDS))
    return NodeRounds(node_id=node_id, items=[NodeRound.of(row) for row in rounds])


@router.post(
    "/nodes/{node_id}/redeploy",
    operation_id="redeploy_node",
    summary="Give a lost node a new sandbox",
    status_code=202,
    responses={**held(Node, "The node"), **errors(404, 409)},
)
async def redeploy_node(node_id: NodeId, caller: ClusterWriter, state: State, waiting: Waiting) -> Node:
    """Start a new sandbox for a node whose sandbox no longer exists.

    The node keeps its id, its connections and its place in a running training. Upload its data
    again: then it joins the next round. It is safe to repeat the call.
    """
    row = await state.run(lambda uow: nodes.redeploy(uow, state.settings, caller.project_id, node_id), caller)
    row = await waiting.wait_until_settled(caller, row)
    waiting.set_location(f"/v1/nodes/{row.id}")
    return Node.of(row)


@router.delete(
    "/nodes/{node_id}",
    operation_id="remove_node",
    summary="Remove a node and end its sandbox",
    status_code=202,
    responses={**held(Node, "The node"), **errors(404, 409)},
)
async def remove_node(node_id: NodeId, caller: ClusterWriter, state: State, waiting: Waiting) -> Node:
    """End the node. This is refused while a training uses it. It is safe to repeat the call."""
    row = await state.run(lambda uow: nodes.remove(uow, caller.project_id, node_id), caller)
    row = await waiting.wait_until_settled(caller, row, statuses=ENDED_NODE)
    waiting.set_location(f"/v1/nodes/{row.id}")
    return Node.of(row)
