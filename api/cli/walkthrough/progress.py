"""Follow a training: a line for each epoch and each red flag, and a bar on a terminal."""

import time
from typing import Final

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from api.cli.errors import CliError
from api.cli.http.client import ApiClient, api_path
from api.cli.output.printing import plain
from api.cli.responses import ClusterStatusJson, Reason, TrainingSessionJson
from api.cli.walkthrough.screen import Screen

_POLL_S: Final = 0.5
_MOST_LOSSES: Final = 8


def follow(screen: Screen, client: ApiClient, cluster_id: str, training_id: str) -> TrainingSessionJson:
    """Show a training until it has completed; return its last state.

    Raises:
        CliError: It ended otherwise.
    """
    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    path = api_path("clusters", cluster_id, "status")
    shown, flags = 0, set[str]()
    with Progress(*columns, console=screen.console, disable=not screen.console.is_terminal, transient=True) as progress:
        bar = progress.add_task("training", total=None, state="")
        while True:
            sessions = client.get(path, ClusterStatusJson).value.training_sessions
            session = next(session for session in sessions if session.training_id == training_id)
            for flag in session.red_flags or ():
                if flag.message and flag.message not in flags:
                    flags.add(flag.message)
                    screen.line(Text(f"  ! {plain(flag.message)} {plain(flag.suggestion or '')}", style="yellow"))
            if session.epoch > shown:
                shown = session.epoch
                screen.line(f"  {_epoch(session)}")
            progress.update(bar, total=session.total_epochs or None, completed=session.epoch, state=_state(session))
            if session.status == "completed":
                return session
            if session.status not in ("pending", "training"):
                raise CliError(f"the training is {session.status}: {reason(session.error or session.stop_reason)}")
            time.sleep(_POLL_S)


def _state(session: TrainingSessionJson) -> str:
    if session.status == "pending":
        return "the workers check their data"
    return f"epoch {min(session.epoch + 1, session.total_epochs)} of {session.total_epochs}"


def _epoch(session: TrainingSessionJson) -> str:
    parts = [f"epoch {session.epoch}/{session.total_epochs}"]
    if session.metrics.validation_accuracy is not None:
        parts.append(f"validation {session.metrics.validation_accuracy:.1%}")
    losses = [worker.local_loss for worker in session.workers.values() if worker.local_loss is not None]
    if losses:
        more = f" and {len(losses) - _MOST_LOSSES} more" if len(losses) > _MOST_LOSSES else ""
        parts.append("losses of the workers " + " ".join(f"{loss:.3f}" for loss in losses[:_MOST_LOSSES]) + more)
    if session.status == "training" and session.estimated_completion:
        parts.append(f"{session.estimated_completion} left")
    return "  ".join(parts)


def reason(error: Reason | None) -> str:
    """Return why something ended, on one line."""
    return plain(f"{error.detail} ({error.code})") if error else "no reason given"
