"""The kinds of rows that have a status, and the rows that background steps lease."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from api.domain import status
from api.domain.steps import Step
from api.store.tables import (
    ClusterRow,
    ExecutionRow,
    MlflowRunRow,
    ModelRow,
    NodeRow,
    PredictionRow,
    SearchRow,
    TrainingRow,
    WebhookRow,
)

StatusRow = ClusterRow | NodeRow | TrainingRow | PredictionRow | ModelRow | SearchRow | ExecutionRow
LeasedRow = StatusRow | WebhookRow | MlflowRunRow
StatusRowT = TypeVar("StatusRowT", ClusterRow, NodeRow, TrainingRow, PredictionRow, ModelRow, SearchRow, ExecutionRow)
LeasedRowT = TypeVar(
    "LeasedRowT",
    ClusterRow,
    NodeRow,
    TrainingRow,
    PredictionRow,
    ModelRow,
    SearchRow,
    ExecutionRow,
    WebhookRow,
    MlflowRunRow,
)


@dataclass(frozen=True, slots=True)
class RowKind:
    """One kind of row.

    `noun` is its name in messages, event types and JSON fields; `plural` is its name in metrics.
    `moves` are the legal changes of its status. `advance` is the step that a due row gets.
    """

    table: type[StatusRow]
    noun: str
    plural: str
    moves: Mapping[str, frozenset[str]]
    advance: Step

    @property
    def settled(self) -> frozenset[str]:
        """Return the statuses that end a client's `Prefer: wait`."""
        return status.SETTLED[self.noun]


KINDS: Final = (
    RowKind(ClusterRow, "cluster", "clusters", status.CLUSTER_MOVES, Step.CLUSTERS_ADVANCE),
    RowKind(NodeRow, "node", "nodes", status.NODE_MOVES, Step.NODES_ADVANCE),
    RowKind(TrainingRow, "training", "trainings", status.TRAINING_MOVES, Step.TRAININGS_ADVANCE),
    RowKind(PredictionRow, "prediction", "predictions", status.PREDICTION_MOVES, Step.PREDICTIONS_ADVANCE),
    RowKind(ModelRow, "model", "models", status.MODEL_MOVES, Step.MODELS_ADVANCE),
    RowKind(SearchRow, "search", "searches", status.SEARCH_MOVES, Step.SEARCHES_ADVANCE),
    RowKind(ExecutionRow, "execution", "executions", status.EXECUTION_MOVES, Step.EXECUTIONS_ADVANCE),
)
_NOUNS: Final[Mapping[type, str]] = {
    **{kind.table: kind.noun for kind in KINDS},
    WebhookRow: "webhook",
    MlflowRunRow: "mlflow_run",
}
_KIND_OF: Final[Mapping[type, RowKind]] = {kind.table: kind for kind in KINDS}


def kind_of(table: type[StatusRow]) -> RowKind:
    """Return the kind of the rows of a table class."""
    return _KIND_OF[table]


def noun_of(table: type[LeasedRow]) -> str:
    """Return what the rows of a table class are called."""
    return _NOUNS[table]
