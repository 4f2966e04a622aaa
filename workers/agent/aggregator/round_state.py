"""The state of one round at its aggregator."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from workers.agent.aggregator.consensus_modes import JUDGING
from workers.agent.aggregator.filter_result import FilterResult
from workers.agent.protocol.aggregation import AggregateRound, ExchangeResult
from workers.agent.protocol.common import LinkUse
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.aggregator_report import AggregatorReport
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.storage.tensors import State
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.strategies.registry import Strategy


@dataclass(frozen=True, slots=True)
class HeldUpdate:
    """An update on disk. `path` is a whole model, `length` its distance from the round's base."""

    report: TrainReport
    path: Path
    length: float


class RoundState:
    """The state of a round, from its request until its report ends.

    It changes only through its own methods. Who may call them, and when:

    - `Aggregator` (rounds.py) calls any of them, on the event loop's thread, with `lock` held.
      Only `stop` needs no lock: it takes one step of the event loop and ends the report.
    - `PeerExchangeCoordinator` (exchanges.py) calls `fall_back`, `add_group_mean` and
      `record_group_models`, while `Aggregator` holds the lock for it.
    - `UpdateIntake` (intake.py) calls `add_to_mean` and `hold` when an update arrives.
      `Publisher` (publishing.py) calls `add_to_mean` and `add_notice` after the last update.
      Both run in a thread, while `Aggregator` holds the lock and waits for that thread.
    - The consensus (consensus/) reads only.
    - `report` and `secure` change through their own methods, which `Aggregator` also calls.

    An update is added to the mean when it arrives, or it waits in `held` under its node id.
    """

    def __init__(self, request: AggregateRound, report: AggregatorReport, strategy: Strategy) -> None:
        self.request = request
        self.report = report
        self.lock = asyncio.Lock()
        self.secure: SecureRound | None = None
        self._workers = frozenset(peer.node_id for peer in request.workers)
        self._waiting = set(self._workers)
        self._dropped: set[str] = set()
        self._strategy = strategy
        self._exchanging = request.path is not None
        self._exchange_results: dict[str, ExchangeResult] = {}
        self._group_models: dict[str, int] = {}
        self._links: list[LinkUse] = []
        self._mean = FedAvg()
        self._held: dict[str, HeldUpdate] = {}
        self._check_seconds = 0.0
        if request.secure_aggregation:
            self.secure = SecureRound(f"{request.training_id}/{request.round}", self._waiting)

    @property
    def training_id(self) -> str:
        return self.request.training_id

    @property
    def number(self) -> int:
        return self.request.round

    @property
    def strategy(self) -> Strategy:
        return self._strategy

    @property
    def streams(self) -> bool:
        """Whether an update is added to the mean when it arrives.

        That needs a mean, and no consensus that judges or compares updates.
        """
        return self.request.consensus not in JUDGING and self._strategy.rule is None

    @property
    def waiting(self) -> Collection[str]:
        """Node ids whose update or exchange result has not come yet."""
        return frozenset(self._waiting)

    @property
    def dropped(self) -> Collection[str]:
        return frozenset(self._dropped)

    @property
    def exchanging(self) -> bool:
        """Whether the workers average their updates among themselves."""
        return self._exchanging

    @property
    def exchange_results(self) -> Mapping[str, ExchangeResult]:
        return self._exchange_results

    @property
    def group_models(self) -> Mapping[str, int]:
        """Gossip: digests of the workers' models, and how many workers have each."""
        return self._group_models

    @property
    def held(self) -> Mapping[str, HeldUpdate]:
        return self._held

    @property
    def links(self) -> list[LinkUse]:
        return [*self._links]

    @property
    def check_seconds(self) -> float:
        """Seconds that all checks of arriving updates have taken."""
        return self._check_seconds

    @property
    def is_ready(self) -> bool:
        """Whether the round can be closed: it is open and nothing more is waited for."""
        return not self._waiting and self.report.is_open and (self.secure is None or self.secure.is_over)

    def expects(self, node_id: str) -> bool:
        """Return whether this node may send its update now."""
        if self.secure is not None and not self.secure.expects(node_id):
            return False
        return node_id in self._waiting and self.report.is_open

    def drop(self, node_ids: Collection[str]) -> set[str]:
        """Stop waiting for these nodes. Return those that had not been dropped before."""
        lost = set(node_ids) & self._workers - self._dropped
        self._dropped |= lost
        self._waiting -= lost
        if lost and self.secure is not None:
            self.secure.drop(sorted(lost))
        return lost

    def stop_waiting_for(self, node_id: str) -> None:
        self._waiting.discard(node_id)

    def close_to_updates(self, late: Collection[str]) -> None:
        """Stop waiting for all nodes. The report names those that were `late`."""
        if self.report.is_open:
            self.report.set_late(sorted(late))
        self._waiting.clear()

    def add_to_mean(self, model: State, samples: int) -> None:
        self._mean.add(model, samples)

    def mean(self) -> State:
        """Return the mean of all models that were added, weighted by their samples."""
        return self._mean.result()

    def hold(self, node_id: str, update: HeldUpdate) -> None:
        self._held[node_id] = update

    def accept_update(self, report: TrainReport, link: LinkUse, check_seconds: float) -> None:
        """Record an update that has passed its checks. `link` is its transfer."""
        self._check_seconds += check_seconds
        self._links += [*report.links, link]
        self.report.add_received(report, bytes_sent=link.bytes)
        self.report.add_bytes_received(link.bytes)
        if self.secure is not None:
            self.secure.mark_received(link.source)

    def reject_update(self, node_id: str, reason: str) -> None:
        """Record an update that has failed its checks."""
        self.report.add_rejected({node_id: reason})
        if self.secure is not None:
            self.secure.drop([node_id])

    def accept_exchange(self, result: ExchangeResult) -> None:
        """Record what a peer exchange gave one worker."""
        node_id = result.report.node_id
        self._waiting.discard(node_id)
        self._exchange_results[node_id] = result
        self._links += result.report.links
        self.report.add_received(result.report)

    def record_group_models(self, workers_by_digest: Mapping[str, int]) -> None:
        self._group_models = dict(workers_by_digest)

    def add_group_mean(self, model: State, samples: int, link: LinkUse) -> None:
        """Add the mean of one group of workers. `link` is its download."""
        self._mean.add(model, samples)
        self._links.append(link)
        self.report.add_bytes_received(link.bytes)

    def fall_back(self, reason: str) -> None:
        """End the peer exchange and forget its results. Wait for an update of every worker left."""
        self._exchanging = False
        self._exchange_results.clear()
        self._links.clear()
        self._group_models.clear()
        self._mean = FedAvg()
        self._waiting = set(self._workers - self._dropped)
        self.report.record_fallback(reason if self.request.path else None)

    def record_filter(self, result: FilterResult) -> None:
        """Record what the consensus decided on the updates."""
        self.report.add_rejected(result.rejected)
        if result.rule is not None:
            self._strategy = replace(self._strategy, rule=result.rule)
        self.report.record_consensus(result.votes, result.audits, result.seconds)
        self.report.add_notices(*result.notices)

    def add_notice(self, notice: str) -> None:
        self.report.add_notices(notice)

    def stop(self) -> None:
        if self.secure is not None:
            self.secure.fail(AgentError("round_stopped", "the round was stopped"))
        self.report.stop()
