"""A running cluster as one picture: each training's progress, metrics, time left, cost, and its workers."""

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.cli.output.printing import cell, percent, plain, status, table, usd
from api.cli.output.views import ended_early, why
from api.domain.status import ENDED_TRAINING

Json = dict[str, Any]


def all_ended(answer: Json) -> bool:
    return all(training.get("status") in ENDED_TRAINING for training in answer["training_sessions"])


def picture(answer: Json, only: str | None = None, shown: int = 3) -> RenderableType:
    """A cluster's status; `only` one of its trainings, else the newest `shown`."""
    head = Table.grid(padding=(0, 3, 0, 0))
    head.add_row(
        cell(answer["cluster_id"], "bold"), cell(answer.get("name")), status(answer["status"]), usd(answer.get("cost_usd"))
    )
    sessions = [one for one in answer["training_sessions"] if only in (None, one["training_id"])]
    parts: list[RenderableType] = [head]
    for session in sessions[:shown]:
        parts += [Text(), *_training(session)]
    if len(sessions) > shown:
        parts += [Text(), Text(f"… and {len(sessions) - shown} earlier trainings", style="dim")]
    if not sessions:
        parts += [Text(), Text("no training yet", style="dim")]
    return Group(*parts)


def _training(session: Json) -> list[RenderableType]:
    epoch, total = session["epoch"], session["total_epochs"]
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_row(
        cell(session["training_id"], "bold"),
        ProgressBar(total=total, completed=epoch, width=30, complete_style="cyan", finished_style="green"),
        Text(f"epoch {epoch}/{total}"),
        status(session.get("status")),
    )
    parts: list[RenderableType] = [head, Padding(_figures(session), (0, 0, 0, 2))]
    if session.get("stop_reason"):
        parts.append(Padding(ended_early(session["stop_reason"]), (0, 0, 0, 2)))
    if session.get("error"):
        parts.append(Padding(why(session["error"]), (0, 0, 0, 2)))
    for flag in session.get("red_flags") or ():
        words = Text.assemble((f"\N{BLACK FLAG} {plain(flag['message'])}", "red"), (f"  {plain(flag['suggestion'])}", "yellow"))
        parts.append(Padding(words, (0, 0, 0, 2)))
    if session["workers"]:
        parts.append(Padding(_workers(session["workers"]), (1, 0, 0, 2)))
    return parts


def _figures(session: Json) -> Table:
    metrics = session["metrics"]
    pairs = [
        ("loss", cell(metrics.get("global_loss"))),
        ("accuracy", percent(metrics.get("global_accuracy"))),
        ("validation", percent(metrics.get("validation_accuracy"))),
        ("convergence", cell(metrics.get("convergence_rate"))),
        ("elapsed", cell(session.get("time_elapsed"))),
        ("left", cell(session.get("estimated_completion"))),
    ]
    if "cost_usd" in session:
        pairs.append(("cost", usd(session["cost_usd"])))
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_row(*(Text(name, style="dim") for name, _ in pairs))
    grid.add_row(*(value for _, value in pairs))
    return grid


def _workers(workers: Json) -> Table:
    rows = []
    for node_id, worker in workers.items():
        state = cell(worker.get("state"), "" if worker.get("state") in ("done", "training") else "yellow")
        if worker.get("reason"):
            state.append(f"  {plain(worker['reason'])}", style="dim")
        samples = worker.get("samples")
        rows.append((cell(node_id), cell(worker.get("local_loss")), cell(None if samples is None else f"{samples:,}"), state))
    return table(("worker", "loss", "samples", "state"), rows, right=("loss", "samples"))
