"""The model of a training's curves."""

from typing import Annotated, Any

from pydantic import Field, PlainSerializer

from api.domain.figures import rounded
from api.schemas.base import Int64, ResponseModel, Timestamp
from api.services.curves import CurvesView


def _rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else rounded(value) for value in values]


Series = Annotated[list[float | None], PlainSerializer(_rounded, when_used="json")]


class WorkerCurves(ResponseModel):
    """The figures of one worker, in the order of `rounds`. null: the worker has none there."""

    local_loss: Series
    local_accuracy: Series
    train_seconds: Series


class Curves(ResponseModel):
    """The figures of completed rounds. Every list has one entry for each round of `rounds`."""

    training_id: str = Field(examples=["train_fed_gh789"])
    rounds: list[int] = Field(description="The numbers of the completed rounds, the oldest first.")
    epochs: list[int] = Field(description="Epochs trained when the round had ended.")
    finished_at: list[Timestamp | None]
    seconds: Series = Field(description="Wall-clock seconds of each round.")
    train_seconds: Series = Field(description="Training time of the slowest worker.")
    consensus_seconds: Series
    aggregate_seconds: Series
    evaluate_seconds: Series
    cost_usd: Series = Field(description="The training's sandboxes between the start and the end of the round.")
    bytes_received: list[Int64 | None] = Field(description="Bytes of the updates that reached the aggregator.")
    global_loss: Series
    global_accuracy: Series
    validation_loss: Series
    validation_accuracy: Series
    epsilon: Series = Field(description="The epsilon of the worker that has spent most; null without differential privacy.")
    workers: dict[str, WorkerCurves]
    next_after: int | None = Field(description="The value of ?after= for the next rounds; null if these were all.")

    @classmethod
    def of(cls, view: CurvesView, most: int) -> "Curves":
        spec = view.training.config
        numbers = [row.number for row in view.rounds]
        copied: dict[str, Any] = {name: [getattr(row, name) for row in view.rounds] for name in _COPIED}
        return cls(
            training_id=view.training.id,
            rounds=numbers,
            epochs=[spec.epochs_after(number) for number in numbers],
            cost_usd=[float(usd) for usd in view.costs],
            epsilon=[_most_epsilon(view, number) for number in numbers],
            workers={
                node_id: WorkerCurves(
                    **{
                        name: [getattr(rows.get(number), name, None) for number in numbers]
                        for name in WorkerCurves.model_fields
                    }
                )
                for node_id, rows in view.workers.items()
            },
            next_after=numbers[-1] if len(numbers) == most else None,
            **copied,
        )


_COPIED = (
    "finished_at",
    "seconds",
    "train_seconds",
    "consensus_seconds",
    "aggregate_seconds",
    "evaluate_seconds",
    "bytes_received",
    "global_loss",
    "global_accuracy",
    "validation_loss",
    "validation_accuracy",
)


def _most_epsilon(view: CurvesView, number: int) -> float | None:
    spent = [row.privacy.epsilon for rows in view.workers.values() if (row := rows.get(number)) and row.privacy]
    return max(spent, default=None)
