"""What an aggregator has in hand while it collects a round's updates."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from workers.agent.aggregator.consensus.modes import JUDGING
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound, ExchangeResult
from workers.agent.protocol.common import LinkUse
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.strategies.registry import Strategy


@dataclass(slots=True)
class RoundState:
    """Updates are folded into `mean` as they come, or wait in `held` (node id -> report, file of the whole model)."""

    request: AggregateRound
    watched: PollableReport[AggregateReport]
    waiting: set[str]
    strategy: Strategy
    exchanging: bool = False
    exchanged: dict[str, ExchangeResult] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    links: list[LinkUse] = field(default_factory=list)
    mixed: dict[str, int] = field(default_factory=dict)
    """Gossip: digests of the workers' models, and how many workers have each."""
    mean: FedAvg = field(default_factory=FedAvg)
    held: dict[str, tuple[TrainReport, Path]] = field(default_factory=dict)
    lengths: dict[str, float] = field(default_factory=dict)
    """Of what is held: how far each is from the round's base."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    seconds: float = 0.0
    secure: SecureRound | None = None

    @property
    def report(self) -> AggregateReport:
        return self.watched.report

    @property
    def streams(self) -> bool:
        """Whether an update may be folded in as it comes: nobody has to look at it again, or beside the others."""
        return self.request.consensus not in JUDGING and self.strategy.rule is None

    def refuse(self, reasons: dict[str, str]) -> None:
        """These updates do not count, and why."""
        self.watched.change(rejected={**self.report.rejected, **reasons})
