"""A training's configuration, from the request to the agents' messages."""

from typing import Final

from pydantic import Field

from api.domain import consensus, progress, sampling, strategies
from api.domain.consensus import Consensus
from api.domain.errors import FieldError, InvalidError
from api.domain.privacy import PrivacySpec
from api.domain.records import Record
from api.domain.stopping import StoppingRules
from api.domain.training_options import MOST_EPOCHS, Compression, TrainingOptions

# With two updates, each worker could compute the other's from the published mean.
LEAST_SECURE: Final = 3


class TrainingSpec(TrainingOptions, Record):
    """The options of one training, checked and with defaults filled in.

    A strategy's parameters are None where they belong to another strategy. `round_deadline_s` and
    `quorum` are None where the deployment's setting applies. `lora_rank` 0 means no adapters.
    """

    compression: Compression = "none"
    lora_rank: int = Field(0, ge=0, le=256, description="Rank of the adapters. 0: no adapters.")
    differential_privacy: PrivacySpec | None = None
    extended_after: tuple[int, ...] = Field(
        (), description="Trained epochs at each extension of the training. Empty: it was never extended."
    )

    @property
    def total_rounds(self) -> int:
        return progress.rounds_of(self._stages, self.local_epochs)

    @property
    def rounds_before_extension(self) -> int:
        """The number of rounds before the last extension. 0 without one."""
        return progress.rounds_of(self._stages[:-1], self.local_epochs)

    def extended(self, completed_rounds: int, epochs: int) -> "TrainingSpec":
        """Return the spec of this training with `epochs` epochs after its completed rounds.

        Raises:
            InvalidError: `invalid_request`, where the total is too large.
        """
        trained = self.epochs_after(completed_rounds)
        if trained + epochs > MOST_EPOCHS:
            message = f"the training has {trained} epochs; with {epochs} more it would have over {MOST_EPOCHS}"
            raise InvalidError("invalid_request", message, errors=(FieldError("/epochs", message),))
        earlier = [after for after in self.extended_after if after < trained]
        return self.model_copy(
            update={"epochs": trained + epochs, "extended_after": (*earlier, *([trained] if trained else []))}
        )

    @property
    def _stages(self) -> list[int]:
        return progress.stages(self.epochs, self.extended_after)

    @property
    def strategy_parameters(self) -> dict[str, float | int]:
        """The parameters of its strategy, defaults included."""
        values = {name: getattr(self, name) for name in strategies.PARAMETERS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def least_updates(self) -> int:
        """The fewest updates that its strategy can combine into a model."""
        return strategies.least_updates(self.strategy, self.strategy_parameters)

    @property
    def holds_out(self) -> bool:
        """Whether each worker keeps some samples out of training, to measure models on them."""
        return self.hold_out and self.differential_privacy is None

    @property
    def sends_whole_models(self) -> bool:
        """Whether an update is a whole model, not only a part of one."""
        return self.compression == "none" and not self.freeze_layers

    def marks_seen_words(self, mode: Consensus) -> bool:
        """Return whether a global model from scratch shows which words its training texts had.

        Each of these words then has a weight other than zero, and no other word has one. Noise
        marks every word, adapters mark none. What picks or leaves out values may lose a word.
        """
        loses = "topk" in self.compression or strategies.needs_single_updates(self.strategy) or mode == "byzantine"
        return not loses and self.differential_privacy is None and not self.lora_rank

    @property
    def stopping_rules(self) -> StoppingRules:
        return StoppingRules(self.target_accuracy, self.patience, self.budget_usd, self.max_minutes)

    def epochs_after(self, rounds: int) -> int:
        """Return the number of epochs that `rounds` completed rounds have trained."""
        return progress.epochs_after(rounds, self._stages, self.local_epochs)

    def epochs_of_round(self, number: int) -> int:
        """Return the local epochs of round `number` (from 1)."""
        return self.epochs_after(number) - self.epochs_after(number - 1)

    def learning_rate_of_round(self, number: int) -> float:
        """Return the learning rate of round `number` (from 1)."""
        return progress.learning_rate(self.learning_rate, number, self.total_rounds, self.schedule)

    def drawn_workers(self, workers: int) -> int:
        """Return how many of `workers` workers are drawn for a round."""
        return sampling.count(workers, self.fraction, self.min_workers)

    def check_mode(self, mode: str) -> None:
        """Check the options that only federated training has.

        Raises:
            InvalidError: `federated_only`, where the training is not federated.
        """
        if self.federated:
            return
        foreign = {
            "/federated": mode != "none" and f"the cluster's consensus {mode!r} judges models, and gradients have none",
            "/strategy": self.strategy != "fedavg"
            and f"gradients are averaged; the strategy {self.strategy!r} combines models",
            "/compression": self.compression != "none" and f"{self.compression!r} shrinks models, not gradients",
            "/freeze_layers": self.freeze_layers > 0 and "every layer is trained",
            "/fraction": self.fraction < 1 and "every worker takes part in every step",
        }
        errors = tuple(FieldError(pointer, f"with federated false: {why}") for pointer, why in foreign.items() if why)
        if errors:
            raise InvalidError("federated_only", errors[0].message, errors=errors)

    def check_workers(self, workers: int, mode: Consensus = "none") -> None:
        """Check that `workers` workers are enough for a round under the cluster's consensus.

        Raises:
            InvalidError: `too_few_workers` or `consensus_conflict`.
        """
        if self.min_workers > workers:
            message = f"the cluster has {workers} workers that train; {self.min_workers} are asked for"
            raise InvalidError("too_few_workers", message, errors=(FieldError("/min_workers", message),))
        drawn = self.drawn_workers(workers)
        if drawn < self.least_updates:
            message = (
                f"{self.strategy!r} needs at least {self.least_updates} updates in a round; {drawn} workers take part in one"
            )
            raise InvalidError("too_few_workers", message, errors=(FieldError("/strategy", message),))
        if self.secure_aggregation and drawn < LEAST_SECURE:
            message = f"secure aggregation works from {LEAST_SECURE} workers on; {drawn} take part in a round"
            raise InvalidError("too_few_workers", message, errors=(FieldError("/secure_aggregation", message),))
        consensus.check(mode, self.strategy, drawn, everybody=drawn == workers, whole=self.sends_whole_models)
