"""Parts of an agent's messages that follow from a training's spec, field by field."""

from collections.abc import Sequence

from api.domain.initial_models import InitialModel
from api.domain.training_spec import TrainingSpec
from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.training import Compression, DpSgdSpec, Hyperparameters

_SHARED_OPTIONS = Hyperparameters.model_fields.keys() & TrainingSpec.model_fields.keys()


def model_spec(
    architecture: str, model: str, spec: TrainingSpec, labels: Sequence[str], initial: InitialModel | None = None
) -> ModelSpec:
    """Return the network of a training that began from the model `initial`, if any."""
    return ModelSpec(
        architecture=architecture,
        model=model,
        labels=list(labels),
        max_length=spec.max_length,
        seed=spec.seed,
        lora_rank=spec.lora_rank,
        initial_digest=None if initial is None else initial.digest,
    )


def data_format(spec: TrainingSpec) -> DataFormat:
    """How workers, aggregator and validators read the files of a training."""
    return DataFormat(**{name: getattr(spec, name) for name in DataFormat.model_fields})


def strategy_spec(spec: TrainingSpec) -> StrategySpec:
    """Return the strategy with the parameters that the aggregator needs."""
    options = {name: getattr(spec, name) for name in StrategySpec.model_fields.keys() - {"name"}}
    return StrategySpec(name=spec.strategy, **options)


def compression(spec: TrainingSpec) -> Compression:
    """Return how a worker encodes its update."""
    values = next((value for value in ("int8", "fp16") if value in spec.compression), "fp32")
    ratio = 1.0 if spec.compression_ratio is None else spec.compression_ratio
    return Compression(values=values, sparse="topk" in spec.compression, ratio=ratio)


def hyperparameters(spec: TrainingSpec, number: int, privacy: DpSgdSpec | None = None) -> Hyperparameters:
    """Return the hyperparameters of the workers in round `number` (from 1).

    An option that both `TrainingSpec` and `Hyperparameters` have is passed on under its name.
    """
    options = {name: value for name in _SHARED_OPTIONS if (value := getattr(spec, name)) is not None}
    options |= {
        "local_epochs": spec.epochs_of_round(number),
        "learning_rate": spec.learning_rate_of_round(number),
        "keep_moments": spec.strategy == "diloco",
        "privacy": privacy,
    }
    return Hyperparameters(**options)
