"""How a cluster decides which updates count: the modes, and what each mode needs."""

from typing import Annotated, Final, Literal

from api.domain import strategies
from api.domain.errors import FieldError, InvalidError
from api.domain.words import Words

Consensus = Annotated[
    Literal["proof-of-learning", "byzantine", "gossip", "raft", "none"],
    Words("Consensus", "Who decides which updates count."),
]
# In a star, and in a hierarchy, no path between the workers avoids the aggregator.
GOSSIP_TOPOLOGIES: Final = ("mesh", "ring")
# Two updates have no middle one.
_FEWEST_BYZANTINE: Final = 3


def check_topology(mode: str, topology: str) -> None:
    """Check that a cluster's topology has the edges that its consensus needs.

    Raises:
        InvalidError: `consensus_conflict`.
    """
    if mode == "gossip" and topology not in GOSSIP_TOPOLOGIES:
        ways = " or ".join(GOSSIP_TOPOLOGIES)
        raise _refused("topology", f"the consensus 'gossip' needs edges from worker to worker ({ways}), not a {topology!r}")


def check(mode: Consensus, strategy: str, drawn: int, *, everybody: bool = True, whole: bool = True) -> None:
    """Check that the mode works with a training's settings.

    `drawn` workers take part in a round. `everybody` says that these are all workers. `whole` says
    that their updates are whole models.

    Raises:
        InvalidError: `consensus_conflict`.
    """
    if mode == "gossip":
        if strategy not in ("fedavg", "fedprox"):
            raise _refused("strategy", f"the consensus 'gossip' has no server that could take a step of {strategy!r}")
        if not everybody:
            raise _refused("fraction", "under the consensus 'gossip' every worker takes part in every round")
        if not whole:
            raise _refused("compression", "under the consensus 'gossip' workers exchange whole models")
    if mode == "byzantine":
        if strategies.needs_single_updates(strategy):
            raise _refused("strategy", f"the consensus 'byzantine' combines the updates itself, and so would {strategy!r}")
        if drawn < _FEWEST_BYZANTINE:
            raise _refused("strategy", f"the consensus 'byzantine' needs {_FEWEST_BYZANTINE} workers in a round, not {drawn}")


def judges(mode: str) -> bool:
    """Return whether the aggregator judges every single update."""
    return mode in ("proof-of-learning", "byzantine")


def majority(workers: int) -> int:
    """Return the smallest number that is more than half of `workers`."""
    return workers // 2 + 1


def _refused(field: str, message: str) -> InvalidError:
    return InvalidError("consensus_conflict", message, errors=(FieldError(f"/{field}", message),))
