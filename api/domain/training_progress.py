"""What the rounds of a training have shown so far, as its row keeps it for the cluster's status."""

import math
from typing import Final

from api.domain.progress import RECENT_ROUNDS
from api.domain.records import Record

_FEWEST_LOSSES: Final = 3


class TrainingProgress(Record):
    """Figures of the completed rounds.

    The metrics are those of the last one. `losses` counts the measured global losses.
    `largest_fall` is the largest fall of the global loss between two rounds. `recent_seconds` are
    the wall-clock times of the last five rounds.
    """

    global_loss: float | None = None
    global_accuracy: float | None = None
    validation_accuracy: float | None = None
    convergence_rate: float | None = None
    losses: int = 0
    last_loss: float | None = None
    largest_fall: float | None = None
    recent_seconds: tuple[float, ...] = ()

    def after(
        self,
        *,
        global_loss: float | None,
        global_accuracy: float | None,
        validation_accuracy: float | None,
        seconds: float | None,
    ) -> "TrainingProgress":
        """Return the figures after one more completed round."""
        metrics = {
            "global_loss": global_loss,
            "global_accuracy": global_accuracy,
            "validation_accuracy": validation_accuracy,
            "recent_seconds": self.recent_seconds if seconds is None else (*self.recent_seconds, seconds)[-RECENT_ROUNDS:],
        }
        return self.model_copy(update={**metrics, **self._convergence(global_loss)})

    def _convergence(self, loss: float | None) -> dict[str, float | int | None]:
        """Return the changed figures of the convergence.

        The rate is 1 - (last fall of the loss) / (largest fall), clipped to 0..1. It is None before
        the third loss, because a single fall cannot be compared.
        """
        if loss is None or not math.isfinite(loss):
            return {}
        if self.last_loss is None:
            return {"losses": 1, "last_loss": loss}
        fall = self.last_loss - loss
        largest = fall if self.largest_fall is None else max(fall, self.largest_fall)
        rate = None
        if self.losses + 1 >= _FEWEST_LOSSES:
            rate = 1.0 if largest <= 0 else min(1.0, max(0.0, 1.0 - fall / largest))
        return {"losses": self.losses + 1, "last_loss": loss, "largest_fall": largest, "convergence_rate": rate}


class WorkerProgress(Record):
    """A worker's newest metrics, and its state in the newest round. None: not known yet."""

    local_loss: float | None = None
    local_accuracy: float | None = None
    samples: int | None = None
    state: str | None = None
    reason: str | None = None
