"""The decision of a cluster's consensus on a round's updates."""

from dataclasses import dataclass, field

from workers.agent.protocol.consensus import AuditRecord, Vote
from workers.agent.strategies.registry import CombineRule


@dataclass(frozen=True, slots=True)
class FilterResult:
    """`accepted` and the keys of `rejected` are node ids.

    `rule` combines the accepted updates, where the consensus prescribes how. `seconds` is the time
    that the consensus took; None where no update is judged.
    """

    accepted: list[str]
    rejected: dict[str, str] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    audits: list[AuditRecord] = field(default_factory=list)
    rule: CombineRule | None = None
    notices: list[str] = field(default_factory=list)
    seconds: float | None = None
