"""`flow-nexus neural node`."""

from typing import Annotated

import typer

from api.cli.commands.clusters import ClusterId, Flag, Limit, Wait
from api.cli.errors import FAILURE
from api.cli.http.client import api_path
from api.cli.output import views
from api.cli.session import Session, failed, given, group, truth, with_session

app = group("Nodes: deploy, list, redeploy, remove.")

_DEPLOY_WAIT_S = 180
_REMOVE_WAIT_S = 60


@app.command("deploy")
@with_session
def deploy(
    session: Session,
    cluster_id: ClusterId,
    node_type: Annotated[str | None, typer.Option(metavar="worker|parameter_server|validator")] = None,
    role: Annotated[str | None, typer.Option(metavar="worker|aggregator|validator")] = None,
    model: Annotated[str | None, typer.Option(help="base, large, minilm, a Hugging Face id, or a path.")] = None,
    template: Annotated[str | None, typer.Option(metavar="python|nodejs")] = None,
    autonomy: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    capabilities: Annotated[str | None, typer.Option(help="With commas: training,inference", metavar="A,B")] = None,
    data_owner: Annotated[Flag | None, typer.Option(help="Close it to all but its data owner's key.")] = None,
    wait: Wait = _DEPLOY_WAIT_S,
) -> None:
    """Start a node in a sandbox of its own, and wait until it runs."""
    abilities = None if capabilities is None else [word for part in capabilities.split(",") if (word := part.strip())]
    body = given(
        node_type=node_type,
        role=role,
        model=model,
        template=template,
        autonomy=autonomy,
        capabilities=abilities,
        data_owner=truth(data_owner),
    )
    with session.busy("starting the sandbox"):
        node = session.client.post(
            api_path("clusters", cluster_id, "nodes"),
            body,
            wait=wait,
            pending=frozenset({"provisioning"}),
            then=lambda answer: api_path("nodes", answer["node_id"]),
        )
    session.show(node, views.node)
    if failed(node):
        raise typer.Exit(FAILURE)


@app.command("list")
@with_session
def list_nodes(session: Session, cluster_id: ClusterId, limit: Limit = None) -> None:
    """List a cluster's nodes."""
    session.show(session.client.items(api_path("clusters", cluster_id, "nodes"), limit=limit), views.nodes)


@app.command("redeploy")
@with_session
def redeploy(
    session: Session, node_id: Annotated[str, typer.Option(help="node_…", metavar="ID")], wait: Wait = _DEPLOY_WAIT_S
) -> None:
    """Give a node whose sandbox is gone a new one; its data must be uploaded again."""
    with session.busy("starting the sandbox"):
        node = session.client.post(
            api_path("nodes", node_id, "redeploy"),
            wait=wait,
            pending=frozenset({"provisioning"}),
            then=lambda _: api_path("nodes", node_id),
        )
    session.show(node, views.node)
    if failed(node):
        raise typer.Exit(FAILURE)


@app.command("remove")
@with_session
def remove(
    session: Session, node_id: Annotated[str, typer.Option(help="node_…", metavar="ID")], wait: Wait = _REMOVE_WAIT_S
) -> None:
    """End a node and its sandbox."""
    with session.busy("ending the sandbox"):
        answer = session.client.delete(api_path("nodes", node_id), wait=wait)
    session.show(answer or {"node_id": node_id, "status": "terminated"}, views.mapping)
