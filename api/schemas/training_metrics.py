"""The metrics of a training, as the training and the status of its cluster have them."""

from pydantic import Field

from api.domain.training_progress import TrainingProgress
from api.schemas.base import Figure, ResponseModel


class TrainingMetrics(ResponseModel):
    """Metrics of the last completed round. They are null before the first one."""

    global_loss: Figure | None = Field(
        description="sum(n_k * loss_k) / sum(n_k) over the accepted workers k. n_k: training samples. loss_k: the mean"
        " cross-entropy (nats) of the worker's last local epoch."
    )
    global_accuracy: Figure | None = Field(
        description="sum(n_k * accuracy_k) / sum(n_k): the fraction of correct training samples in the last local epoch, 0..1."
    )
    validation_accuracy: Figure | None = Field(
        description="The fraction of correct predictions of the new global model, 0..1, on data that no worker trained on."
        " This is the aggregator's validation file and the validators' data, else the workers' held-out splits (10 %)."
    )
    convergence_rate: Figure | None = Field(
        description="1 - (last fall of global_loss) / (largest fall between two rounds), clipped to 0..1. 1: the loss no"
        " longer falls. null: fewer than three rounds are done."
    )

    @classmethod
    def of(cls, figures: TrainingProgress) -> "TrainingMetrics":
        return cls(
            global_loss=figures.global_loss,
            global_accuracy=figures.global_accuracy,
            validation_accuracy=figures.validation_accuracy,
            convergence_rate=figures.convergence_rate,
        )
