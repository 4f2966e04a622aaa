"""What a walkthrough trains, on which files, and what it has measured at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api.cli.responses import ModelJson, PredictionJson, TrainingSessionJson

_FROM_SCRATCH: Final = ("base", "large")
_SCRATCH_OPTIONS: Final[Mapping[str, object]] = {"epochs": 10}
# Fine-tuning needs few epochs, and a rate that does not destroy what the model knows.
_PRETRAINED_OPTIONS: Final[Mapping[str, object]] = {
    "epochs": 2,
    "learning_rate": 0.0003,
    "optimizer": "adamw",
    "mixed_precision": True,
}


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The shard of each worker, and the files for the aggregator."""

    shards: tuple[Path, ...]
    test: Path | None = None
    validation: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One walkthrough. `cluster` and `training` are the fields of the API's requests."""

    name: str
    files: DataFiles
    model_folder: Path
    model: str = "base"
    cluster: Mapping[str, object] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)
    keep: bool = False
    overwrite: bool = False

    @property
    def training_options(self) -> dict[str, object]:
        """The options of the training: those that were given, and defaults that suit the model."""
        defaults = _SCRATCH_OPTIONS if self.model in _FROM_SCRATCH else _PRETRAINED_OPTIONS
        return {**defaults, **self.training}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a walkthrough has measured. `prediction` is None without a test file.

    `cost_usd` is that of the whole cluster. `running` counts the sandboxes of the cluster that
    still run.
    """

    cluster_id: str
    cluster_status: str | None
    running: int
    session: TrainingSessionJson
    prediction: PredictionJson | None
    model: ModelJson
    model_folder: Path
    cost_usd: float | None
