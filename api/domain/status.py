"""The statuses of each kind of row and the legal moves between them.

No other module decides this.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from api.domain.words import Words

CLUSTER_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "initializing": frozenset({"connected", "terminating"}),
    "connected": frozenset({"initializing", "training", "terminating"}),
    "training": frozenset({"connected", "terminating"}),
    "terminating": frozenset({"terminated"}),
    "terminated": frozenset(),
}
NODE_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "provisioning": frozenset({"running", "failed", "terminating"}),
    "running": frozenset({"lost", "terminating"}),
    "lost": frozenset({"running", "provisioning", "terminating"}),
    "failed": frozenset({"provisioning", "terminating"}),
    "terminating": frozenset({"terminated"}),
    "terminated": frozenset(),
}
TRAINING_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"training", "refused", "stopping", "stopped", "failed"}),
    "training": frozenset({"stopping", "completed", "stopped", "failed"}),
    "stopping": frozenset({"stopped", "completed", "failed"}),
    "completed": frozenset({"pending"}),
    "refused": frozenset(),
    "stopped": frozenset({"pending"}),
    "failed": frozenset({"pending"}),
}
ROUND_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "running": frozenset({"completed", "failed", "stopped"}),
    "completed": frozenset(),
    "failed": frozenset({"running"}),
    "stopped": frozenset({"running"}),
}
PREDICTION_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
MODEL_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset({"expired"}),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "expired": frozenset(),
}
SEARCH_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"running", "stopping", "completed", "failed"}),
    "running": frozenset({"stopping", "completed", "failed"}),
    "stopping": frozenset({"stopped"}),
    "completed": frozenset(),
    "stopped": frozenset(),
    "failed": frozenset(),
}
EXECUTION_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"running", "cancelling", "failed"}),
    "running": frozenset({"cancelling", "completed", "failed"}),
    "cancelling": frozenset({"cancelled", "completed", "failed"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}

ROUND_WORKER_STATES: Final = ("training", "done", "rejected", "late", "failed", "lost", "declined", "not_sampled")

ClusterState = Annotated[str, Words("ClusterState", "The status of a cluster.", CLUSTER_MOVES)]
NodeState = Annotated[str, Words("NodeState", "The status of a node, and of its sandbox.", NODE_MOVES)]
TrainingState = Annotated[str, Words("TrainingState", "The status of a training.", TRAINING_MOVES)]
RoundState = Annotated[str, Words("RoundState", "The status of a round.", ROUND_MOVES)]
RoundWorkerState = Annotated[
    str, Words("RoundWorkerState", "What a worker does in a round, or why it is not in its model.", ROUND_WORKER_STATES)
]
PredictionState = Annotated[str, Words("PredictionState", "The status of a prediction.", PREDICTION_MOVES)]
ModelState = Annotated[str, Words("ModelState", "The status of an export and its model.", MODEL_MOVES)]
SearchState = Annotated[str, Words("SearchState", "The status of a search.", SEARCH_MOVES)]
TrialState = Annotated[
    str,
    Words(
        "TrialState",
        "waiting: its training has not begun. skipped: the search ended first. Otherwise the status of its training.",
        ("waiting", "skipped", *TRAINING_MOVES),
    ),
]
ExecutionState = Annotated[
    str,
    Words(
        "ExecutionState",
        "`completed`: the code ended, see `exit_code` and `limit`. `failed`: it could not be started, or its end is not known.",
        EXECUTION_MOVES,
    ),
]

ACTIVE_EXECUTION: Final = frozenset({"pending", "running", "cancelling"})
ACTIVE_SEARCH: Final = frozenset({"pending", "running", "stopping"})
ACTIVE_TRAINING: Final = frozenset({"pending", "training", "stopping"})
ENDED_EXECUTION: Final = frozenset({"completed", "failed", "cancelled"})
ENDED_SEARCH: Final = frozenset({"completed", "stopped", "failed"})
ENDED_TRAINING: Final = frozenset({"completed", "refused", "stopped", "failed"})
LIVE_NODE: Final = frozenset({"provisioning", "running", "lost", "failed"})
ENDED_NODE: Final = frozenset({"terminated"})
ENDED_CLUSTER: Final = frozenset({"terminated"})
# A cluster in one of these accepts no more work.
CLOSED_CLUSTER: Final = frozenset({"terminating", "terminated"})
SETTLED: Final[Mapping[str, frozenset[str]]] = {
    "node": frozenset({"running", "failed", "lost", "terminated"}),
    "training": frozenset({"training"}) | ENDED_TRAINING,
    "prediction": frozenset({"completed", "failed", "cancelled"}),
    "model": frozenset({"completed", "failed", "cancelled", "expired"}),
    "search": ENDED_SEARCH,
    "execution": ENDED_EXECUTION,
    "cluster": ENDED_CLUSTER,
}


class IllegalMoveError(Exception):
    """A status change that the table does not allow.

    A bug or a lost race causes it, never a client.
    """


def check_move(moves: Mapping[str, frozenset[str]], noun: str, old: str, new: str) -> None:
    """Check a status change against the table.

    Raises:
        IllegalMoveError: the table does not allow it.
    """
    if new not in moves[old]:
        raise IllegalMoveError(f"a {noun} cannot go from {old} to {new}")
