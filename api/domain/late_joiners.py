"""Workers that join a training after its first round, or that cannot."""

from datetime import datetime, timedelta
from typing import Final

from api.domain.records import Record
from api.domain.red_flags import CANNOT_JOIN, OUTSIDE, Flag

# A check delays the next round. So all checks of a worker take at most about a tenth of the time.
_PAUSE_FACTOR: Final = 10


class JoinRecord(Record):
    """What is known of a worker that was not among the first workers of a training.

    `joined_at` and `round` say since when it takes part. They are None while it does not.
    `problem` is why its last check refused it. The check took `check_seconds`.
    """

    checked_at: datetime
    check_seconds: float
    problem: str | None = None
    joined_at: datetime | None = None
    round: int | None = None

    def is_due(self, now: datetime) -> bool:
        """Return whether the worker may be checked again."""
        return now >= self.checked_at + timedelta(seconds=self.check_seconds * _PAUSE_FACTOR)


def outside_flag(node_id: str, cluster_id: str, *, late_joiners: bool, in_search: bool, connected: bool) -> Flag | None:
    """Return the flag of a running worker that is not to be checked. None if it is."""
    if in_search:
        reason = "the training belongs to a search, and all trainings of a search have the same workers"
        suggestion = (
            f"Connect it after the search. If it should cost nothing until then, remove it: DELETE /v1/nodes/{node_id}."
        )
    elif not late_joiners:
        reason = "the training has late_joiners false, so that it keeps the workers that it began with"
        suggestion = (
            "It can take part in the next training, or in this one after stop and resume. "
            f"If it should not cost until then, remove it: DELETE /v1/nodes/{node_id}."
        )
    elif not connected:
        reason = "it is not connected"
        suggestion = f"Upload its shard, then connect the cluster again: POST /v1/clusters/{cluster_id}/connect."
    else:
        return None
    return Flag(OUTSIDE, f"{node_id} runs and costs, but takes no part: {reason}.", suggestion, node_id, None)


def refusal_flag(node_id: str, problem: str) -> Flag:
    """Return the flag of a worker that cannot join."""
    suggestion = (
        "Mend it; the worker is checked again before a later round. "
        f"If it should not cost, remove it: DELETE /v1/nodes/{node_id}."
    )
    return Flag(CANNOT_JOIN, f"{node_id} runs and costs, but cannot join: {problem}.", suggestion, node_id, None)
