"""`flow-nexus neural cluster`."""

from typing import Annotated, Any, Literal

import typer

from api.cli.errors import FAILURE
from api.cli.http.client import api_path
from api.cli.output import live, views, watch
from api.cli.session import Session, failed, given, group, truth, with_session

app = group("Clusters: make, connect, look at, end.")

Flag = Literal["true", "false"]
ClusterId = Annotated[str, typer.Option("--cluster-id", help="cls_…", metavar="ID")]
Topology = Annotated[str | None, typer.Option(metavar="mesh|ring|star|hierarchical")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many; all by default.")]
_TERMINATE_WAIT_S = 60


def wait_option(help: str = "Seconds to wait for it; 0 answers at once.") -> Any:  # noqa: A002
    return typer.Option("--wait", min=0, max=3600, help=help, metavar="SECONDS")


Wait = Annotated[int, wait_option()]


@app.command("init")
@with_session
def init(
    session: Session,
    name: Annotated[str, typer.Option(help="What you call it.")],
    topology: Topology = None,
    architecture: Annotated[str | None, typer.Option(metavar="transformer|transformer-xl|gpt|rnn|cnn")] = None,
    daa_enabled: Annotated[Flag | None, typer.Option(help="Let nodes decide within their --autonomy.")] = None,
    consensus: Annotated[str | None, typer.Option(metavar="proof-of-learning|byzantine|gossip|raft|none")] = None,
    wasm_optimization: Annotated[Flag | None, typer.Option(help="Serve predictions from the ONNX graph.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="What its sandboxes may cost.")] = None,
    idle_timeout_minutes: Annotated[float | None, typer.Option(help="End it after so long without use; 0 = never.")] = None,
) -> None:
    """Make a cluster."""
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
    session.show(session.client.post(api_path("clusters"), body), views.cluster)


@app.command("list")
@with_session
def list_clusters(session: Session, limit: Limit = None) -> None:
    """List clusters."""
    session.show(session.client.items(api_path("clusters"), limit=limit), views.clusters)


@app.command("connect")
@with_session
def connect(session: Session, cluster_id: ClusterId, topology: Topology = None) -> None:
    """Connect a cluster's nodes."""
    session.show(session.client.post(api_path("clusters", cluster_id, "connect"), given(topology=topology)), views.connections)


@app.command("status")
@with_session
def show_status(
    session: Session,
    cluster_id: ClusterId,
    follow: Annotated[bool, typer.Option("--watch", help="Stay until no training runs any more.")] = False,
) -> None:
    """Show rounds, metrics, workers, time left and cost."""
    if not follow:
        session.show(session.client.get(api_path("clusters", cluster_id, "status")), live.picture)
        return
    sessions = watch.watch_cluster(session, cluster_id)["training_sessions"]
    if sessions and failed(sessions[0]):
        raise typer.Exit(FAILURE)


@app.command("terminate")
@with_session
def terminate(session: Session, cluster_id: ClusterId, wait: Wait = _TERMINATE_WAIT_S) -> None:
    """Stop everything in a cluster and end its sandboxes."""
    with session.busy("ending the sandboxes"):
        answer = session.client.post(api_path("clusters", cluster_id, "terminate"), wait=wait)
    session.show(answer, views.cluster)
