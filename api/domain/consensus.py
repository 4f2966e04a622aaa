"""How a cluster agrees on which updates count: the modes, and what each can be combined with."""

from typing import Final, Literal

from api.domain import strategies
from api.domain.errors import FieldError, InvalidError

Consensus = Literal["proof-of-learning", "byzantine", "gossip", "raft", "none"]
# A star's and a hierarchy's workers have no edges, or no way round, among themselves.
GOSSIP_TOPOLOGIES: Final = ("mesh", "ring")
# Fewer updates have no middle.
_FEWEST_BYZANTINE: Final = 3


def check_topology(mode: str, topology: str) -> None:
    """InvalidError where a cluster's edges do not carry its consensus."""
    if mode == "gossip" and topology not in GOSSIP_TOPOLOGIES:
        ways = " or ".join(GOSSIP_TOPOLOGIES)
        raise _refused("topology", f"the consensus 'gossip' needs edges from worker to worker ({ways}), not a {topology!r}")


def check(mode: Consensus, strategy: str, drawn: int, *, everybody: bool = True, whole: bool = True) -> None:
    """InvalidError where the mode cannot work with a training's settings; `drawn` workers take part in a round, which is
    `everybody` or not, and their updates are `whole` models or only parts of them."""
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
    """Whether every update must be looked at by itself, where they all come together."""
    return mode in ("proof-of-learning", "byzantine")


def majority(workers: int) -> int:
    """More than half."""
    return workers // 2 + 1


def _refused(field: str, message: str) -> InvalidError:
    return InvalidError("consensus_conflict", message, errors=(FieldError(f"/{field}", message),))
