from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api.domain.status import ENDED_NODE
from api.http.auth import ClusterReader, ClusterWriter, SandboxReader
from api.http.deps import IdempotencyKey, Pages, State, Wait
from api.routes.clusters import ClusterId
from api.routes.common import WAITED, answers, create_idempotent, errors, set_location, wait_until_settled
from api.schemas.base import Page
from api.schemas.nodes import Node, NodeDeploy, NodeRound, NodeRounds
from api.services import nodes

router = APIRouter(prefix="/v1", tags=["nodes"])
_MOST_ROUNDS = 100
NodeId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["node_w1_abc123"])]


@router.post(
    "/clusters/{cluster_id}/nodes",
    operation_id="deploy_node",
    summary="Deploy a node in a sandbox of its own",
    status_code=202,
    responses={**answers(202, "The node, provisioning or running", WAITED), **errors(404, 409, body=True)},
)
async def deploy_node(
    cluster_id: ClusterId,
    body: NodeDeploy,
    caller: ClusterWriter,
    state: State,
    key: IdempotencyKey,
    wait: Wait,
    request: Request,
    response: Response,
) -> Node:
    """With `Prefer: wait=120` the answer is held until the node's agent runs."""
    row = await create_idempotent(
        state,
        caller,
        request,
        key,
        body,
        lambda uow: nodes.deploy(uow, state.settings, caller.project_id, cluster_id, body.spec()),
        nodes.get,
    )
    row = await wait_until_settled(state, caller, request, row, nodes.get, wait)
    set_location(response, f"/v1/nodes/{row.id}", wait)
    return Node.of(row)


@router.get("/clusters/{cluster_id}/nodes", operation_id="list_nodes", summary="List a cluster's nodes", responses=errors(404))
async def list_nodes(cluster_id: ClusterId, caller: ClusterReader, state: State, paging: Pages) -> Page[Node]:
    """Newest first, terminated ones included."""
    page = await state.work(lambda uow: nodes.page(uow.session, caller.project_id, cluster_id, paging.limit, paging.after))
    return Page(items=[Node.of(row) for row in page.items], next_cursor=page.next.encode() if page.next else None)


@router.get("/nodes/{node_id}", operation_id="get_node", summary="Get a node", responses=errors(404))
async def get_node(node_id: NodeId, caller: ClusterReader, state: State) -> Node:
    """`resources` is null until the node's agent has measured them; `error` says why a node failed or was lost."""
    return Node.of(await state.work(lambda uow: nodes.get(uow.session, caller.project_id, node_id)))


@router.get(
    "/nodes/{node_id}/rounds",
    operation_id="list_node_rounds",
    summary="List what a worker did in its last rounds",
    responses=errors(404),
)
async def list_node_rounds(node_id: NodeId, caller: SandboxReader, state: State) -> NodeRounds:
    """Its own losses, samples and times; what a data owner may know of a training."""
    found = await state.work(lambda uow: nodes.rounds(uow.session, caller, node_id, _MOST_ROUNDS))
    return NodeRounds(node_id=node_id, items=[NodeRound.of(row) for row in found])


@router.post(
    "/nodes/{node_id}/redeploy",
    operation_id="redeploy_node",
    summary="Give a lost node a new sandbox",
    status_code=202,
    responses={**answers(202, "The node, provisioning or running", WAITED), **errors(404, 409)},
)
async def redeploy_node(
    node_id: NodeId, caller: ClusterWriter, state: State, wait: Wait, request: Request, response: Response
) -> Node:
    """For a node whose sandbox no longer exists. It keeps its id, its connections and its place in a running training, which
    it joins again with the next round once its data is uploaded again. Safe to ask twice."""
    row = await state.work(lambda uow: nodes.redeploy(uow, state.settings, caller.project_id, node_id), caller)
    row = await wait_until_settled(state, caller, request, row, nodes.get, wait)
    set_location(response, f"/v1/nodes/{row.id}", wait)
    return Node.of(row)


@router.delete(
    "/nodes/{node_id}",
    operation_id="remove_node",
    summary="Remove a node and end its sandbox",
    status_code=202,
    responses={**answers(202, "Terminating, or terminated", WAITED), **errors(404, 409)},
)
async def remove_node(
    node_id: NodeId, caller: ClusterWriter, state: State, wait: Wait, request: Request, response: Response
) -> Node:
    """Refused while a training uses the node. Safe to ask twice."""
    row = await state.work(lambda uow: nodes.remove(uow, caller.project_id, node_id), caller)
    row = await wait_until_settled(state, caller, request, row, nodes.get, wait, ENDED_NODE)
    set_location(response, f"/v1/nodes/{row.id}", wait)
    return Node.of(row)
