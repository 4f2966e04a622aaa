"""`flow-nexus neural cluster`."""

from typing import Annotated, Any, Literal

import typer

from api.cli.errors import FAILURE
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import live, views, watch
from api.cli.responses import Cluster, ClusterStatus, Connections
from api.cli.schema_help import schema_command
from api.cli.session import Session, failed, given, group, truth, with_session

app = group("Clusters: create, connect, show, terminate.")

Flag = Literal["true", "false"]
ClusterId = Annotated[str, id_option("--cluster-id", "cluster", "cls_9x7k3m2p")]
Limit = Annotated[int | None, typer.Option(min=1, help="The maximum number of items. Default: all.")]
_TERMINATE_WAIT_S = 60


def wait_option(help: str = "Seconds to wait for the result; 0 returns at once.") -> Any:  # noqa: A002
    return typer.Option("--wait", min=0, max=3600, help=help, metavar="SECONDS")


Wait = Annotated[int, wait_option()]


@app.command("init", cls=schema_command("clusters.ClusterCreate"))
@with_session
def init(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    name: Annotated[str, typer.Option(help="The name of the cluster.")],
    topology: str | None = None,
    architecture: str | None = None,
    daa_enabled: Flag | None = None,
    consensus: str | None = None,
    wasm_optimization: Flag | None = None,
    budget_usd: float | None = None,
    idle_timeout_minutes: float | None = None,
) -> None:
    """Create a cluster."""
    body = given(
        name=name,
        topology=topology,
        architecture=architecture,
        daa_enabled=truth(daa_enabled),
        consensus=consensus,
        wasm_optimization=truth(wasm_optimization),
        budget_usd=budget_usd,
        idle_timeout_minutes=idle_timeout_minutes,
    )
    session.show(session.client.post(api_path("clusters"), Cluster, body), views.cluster)


@app.command("list")
@with_session
def list_clusters(session: Session, limit: Limit = None) -> None:
    """List clusters."""
    session.show(session.client.items(api_path("clusters"), Cluster, limit=limit), views.clusters)


@app.command("connect", cls=schema_command("clusters.ClusterConnect"))
@with_session
def connect(session: Session, cluster_id: ClusterId, topology: str | None = None) -> None:
    """Connect the nodes of a cluster."""
    path = api_path("clusters", cluster_id, "connect")
    session.show(session.client.post(path, Connections, given(topology=topology)), views.connections)


@app.command("status")
@with_session
def show_status(
    session: Session,
    cluster_id: ClusterId,
    follow: Annotated[bool, typer.Option("--watch", help="Update the output until no training runs.")] = False,
) -> None:
    """Show rounds, metrics, workers, time left and cost."""
    if not follow:
        session.show(session.client.get(api_path("clusters", cluster_id, "status"), ClusterStatus), live.picture)
        return
    sessions = watch.watch_cluster(session, cluster_id).training_sessions
    if sessions and failed(sessions[0].status):
        raise typer.Exit(FAILURE)


@app.command("terminate")
@with_session
def terminate(session: Session, cluster_id: ClusterId, wait: Wait = _TERMINATE_WAIT_S) -> None:
    """Stop all work of a cluster and end its sandboxes."""
    with session.busy("ending the sandboxes"):
        answer = session.client.post(api_path("clusters", cluster_id, "terminate"), Cluster, wait=wait)
    session.show(answer, views.cluster)
