"""How a cluster agrees on which updates count: the modes, and what each can be combined with."""

from typing import Final, Literal

from api.domain import strategies
from api.domain.errors import FieldError, InvalidError

Consensus = Literal["proof-of-learning", "byzantine", "gossip", "raft", "none"]
BUILT: Final[tuple[Consensus, ...]] = ("none", "proof-of-learning", "byzantine", "raft")
# Fewer updates have no middle.
_FEWEST_BYZANTINE: Final = 3


def check(mode: Consensus, strategy: str, drawn: int) -> None:
    """InvalidError where the mode cannot work with a training's settings; `drawn` workers take part in a round."""
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
