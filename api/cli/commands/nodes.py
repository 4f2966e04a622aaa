"""`flow-nexus neural node`."""

from typing import Annotated

import typer

from api.cli.errors import FAILURE
from api.cli.http.answer import Answer
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import views
from api.cli.parameters import ClusterId, Flag, Limit, Wait
from api.cli.responses import JsonObject, NodeJson
from api.cli.schema_help import schema_command
from api.cli.session import Session, failed, given, group, truth, with_session

app = group("Nodes: deploy, list, redeploy, remove.")

NodeId = Annotated[str, id_option("--node-id", "node", "node_w1_abc123")]
_DEPLOY_WAIT_S = 180
_REMOVE_WAIT_S = 60


@app.command("deploy", cls=schema_command("nodes.NodeDeploy"))
@with_session
def deploy(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    cluster_id: ClusterId,
    node_type: str | None = None,
    role: str | None = None,
    model: str | None = None,
    template: str | None = None,
    autonomy: float | None = None,
    capabilities: Annotated[
        str | None, typer.Option(help="A list with commas: training,inference. Default: those of the role.", metavar="A,B")
    ] = None,
    data_owner: Flag | None = None,
    wait: Wait = _DEPLOY_WAIT_S,
) -> None:
    """Start a node in its own sandbox, and wait until it runs."""
    names = None if capabilities is None else [name for part in capabilities.split(",") if (name := part.strip())]
    body = given(
        node_type=node_type,
        role=role,
        model=model,
        template=template,
        autonomy=autonomy,
        capabilities=names,
        data_owner=truth(data_owner),
    )
    _start(session, api_path("clusters", cluster_id, "nodes"), body, wait)


@app.command("list")
@with_session
def list_nodes(session: Session, cluster_id: ClusterId, limit: Limit = None) -> None:
    """List the nodes of a cluster."""
    session.show(session.client.items(api_path("clusters", cluster_id, "nodes"), NodeJson, limit=limit), views.nodes)


@app.command("redeploy")
@with_session
def redeploy(session: Session, node_id: NodeId, wait: Wait = _DEPLOY_WAIT_S) -> None:
    """Give a node that lost its sandbox a new one. Upload its data again afterwards."""
    _start(session, api_path("nodes", node_id, "redeploy"), None, wait)


@app.command("remove")
@with_session
def remove(session: Session, node_id: NodeId, wait: Wait = _REMOVE_WAIT_S) -> None:
    """End a node and its sandbox."""
    with session.busy("ending the sandbox"):
        answer = session.client.delete(api_path("nodes", node_id), JsonObject, wait=wait)
    session.show(answer or Answer({"node_id": node_id, "status": "terminated"}, JsonObject), views.mapping)


def _start(session: Session, path: str, body: JsonObject | None, wait: int) -> None:
    with session.busy("starting the sandbox"):
        node = session.client.post_and_poll(
            path, NodeJson, body, wait=wait, pending="provisioning", location=lambda node: api_path("nodes", node.node_id)
        )
    session.show(node, views.node)
    if failed(node.status):
        raise typer.Exit(FAILURE)
