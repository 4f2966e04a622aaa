"""What every part of a round's step needs."""

from dataclasses import dataclass

from api.domain.training_spec import TrainingSpec
from workers.context import Context
from workers.steps.shared.node_snapshot import NodeSnapshot
from workers.steps.shared.training_snapshot import TrainingSnapshot


@dataclass(frozen=True, slots=True)
class RoundContext:
    """One round, as it was planned. It does not change while the agents are asked.

    - `training.workers`: those that take part now. `training.recovering`: those that may come back.
    - `lost`: workers of the round whose sandbox is gone.
    - `excluded`: workers that failed or declined in an earlier step of this round.
    - `data_path`: `star`, `mesh`, `ring`, `hierarchical` or `gossip`.
    - `quorum`: the fewest updates that make the round.
    """

    context: Context
    training: TrainingSnapshot
    token: str
    aggregator: NodeSnapshot
    number: int
    quorum: int
    data_path: str
    lost: tuple[str, ...]
    excluded: tuple[str, ...]

    @property
    def spec(self) -> TrainingSpec:
        return self.training.spec

    @property
    def deadline_s(self) -> float:
        return self.spec.round_deadline_s or self.context.settings.round_deadline_s

    @property
    def data_holders(self) -> tuple[NodeSnapshot, ...]:
        """The nodes with samples of the data set: the workers, or the aggregator of a pooled
        one.
        """
        return self.training.workers if self.spec.federated else (self.aggregator,)
