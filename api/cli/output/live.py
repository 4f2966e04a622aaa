"""The live picture of a cluster: its trainings with progress, metrics, cost and workers."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.cli.output.printing import cell, percent, plain, status, table, usd
from api.cli.output.views import early_end, failure
from api.cli.responses import ClusterStatusJson, RedFlagJson, TrainingSessionJson, WorkerProgressJson
from api.domain.status import ENDED_TRAINING


def all_ended(cluster: ClusterStatusJson) -> bool:
    return all(session.status in ENDED_TRAINING for session in cluster.training_sessions)


def picture(cluster: ClusterStatusJson, only: str | None = None, limit: int = 3) -> RenderableType:
    """Return a cluster's status with its newest trainings, or with the training `only`."""
    head = Table.grid(padding=(0, 3, 0, 0))
    head.add_row(cell(cluster.cluster_id, "bold"), cell(cluster.name), status(cluster.status), usd(cluster.cost_usd))
    sessions = [session for session in cluster.training_sessions if only in (None, session.training_id)]
    parts: list[RenderableType] = [head]
    for session in sessions[:limit]:
        parts += [Text(), *_training(session)]
    if len(sessions) > limit:
        parts += [Text(), Text(f"… and {len(sessions) - limit} earlier trainings", style="dim")]
    if not sessions:
        parts += [Text(), Text("no training yet", style="dim")]
    return Group(*parts)


def _training(session: TrainingSessionJson) -> list[RenderableType]:
    epoch, total = session.epoch, session.total_epochs
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_row(
        cell(session.training_id, "bold"),
        ProgressBar(total=total, completed=epoch, width=30, complete_style="cyan", finished_style="green"),
        Text(f"epoch {epoch}/{total}"),
        status(session.status),
    )
    details: list[RenderableType] = [_metrics(session)]
    if session.preparation is not None:
        details.append(Text("the workers read their data: ").append_text(percent(session.preparation.progress)))
    if session.stop_reason:
        details.append(early_end(session.stop_reason))
    if session.error:
        details.append(failure(session.error))
    details += [_red_flag(flag) for flag in session.red_flags or ()]
    parts: list[RenderableType] = [head, *(Padding(detail, (0, 0, 0, 2)) for detail in details)]
    if session.workers:
        parts.append(Padding(_workers(session.workers), (1, 0, 0, 2)))
    return parts


def _metrics(session: TrainingSessionJson) -> Table:
    metrics = session.metrics
    pairs = [
        ("loss", cell(metrics.global_loss)),
        ("accuracy", percent(metrics.global_accuracy)),
        ("validation", percent(metrics.validation_accuracy)),
        ("convergence", cell(metrics.convergence_rate)),
        ("elapsed", cell(session.time_elapsed)),
        ("left", cell(session.estimated_completion)),
    ]
    if session.cost_usd is not None:
        pairs.append(("cost", usd(session.cost_usd)))
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_row(*(Text(name, style="dim") for name, _ in pairs))
    grid.add_row(*(value for _, value in pairs))
    return grid


def _red_flag(flag: RedFlagJson) -> Text:
    message = (f"\N{BLACK FLAG} {plain(flag.message)}", "red")
    return Text.assemble(message, (f"  {plain(flag.suggestion)}", "yellow"))


def _workers(workers: Mapping[str, WorkerProgressJson]) -> Table:
    rows = []
    for node_id, worker in workers.items():
        state = cell(worker.state, "" if worker.state in ("done", "training") else "yellow")
        if worker.reason:
            state.append(f"  {plain(worker.reason)}", style="dim")
        samples = cell(None if worker.samples is None else f"{worker.samples:,}")
        rows.append((cell(node_id), cell(worker.local_loss), samples, state))
    return table(("worker", "loss", "samples", "state"), rows, right=("loss", "samples"))
