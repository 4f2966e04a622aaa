"""A round's messages to its agents."""

from dataclasses import dataclass
from functools import partial

from api.domain import topology
from workers.agent.peers.tokens import with_tokens
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import Autonomy, Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.training import TrainRound
from workers.agent_client import ClusterKeys
from workers.steps.rounds import privacy
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.observation import RoundObservation
from workers.steps.shared.agent_messages import compression, data_format, hyperparameters, strategy_spec
from workers.steps.shared.node_snapshot import NodeSnapshot, peers_of


@dataclass(frozen=True, slots=True)
class RoundPeers:
    """How the round's agents are reached from inside a sandbox, by node id."""

    this: RoundContext
    by_id: dict[str, Peer]

    @classmethod
    async def reach(cls, this: RoundContext, observation: RoundObservation) -> "RoundPeers":
        """Look up all agents. Workers whose sandbox cannot be reached are noted in
        `observation`.
        """
        training = this.training
        by_id = await peers_of(this.context, [*training.workers, *training.recovering, this.aggregator])
        for node in training.workers:
            if node.node_id not in by_id:
                observation.set_unreachable(node.node_id, "its sandbox cannot be reached")
        return cls(this, by_id)

    @property
    def aggregator(self) -> Peer | None:
        return self.by_id.get(self.this.aggregator.node_id)

    @property
    def workers(self) -> list[NodeSnapshot]:
        """The running workers that can be reached."""
        return [node for node in self.this.training.workers if node.node_id in self.by_id]

    @property
    def expected(self) -> list[NodeSnapshot]:
        """All workers of the round that can be reached, those that are recovering too."""
        return [*self.workers, *(node for node in self.this.training.recovering if node.node_id in self.by_id)]

    def data_path(self, observation: RoundObservation) -> DataPath | None:
        """The exchange between workers. None for a star.

        A ring depends on the order of its peers, so every step of a round gives the same order.
        """
        kind, training = self.this.data_path, self.this.training
        if kind == "star":
            return None
        inside = {node.node_id for node in self.expected} - observation.dropped
        names = [node_id for node_id in training.planned_workers if node_id in inside]
        groups = topology.groups(names) if kind == "hierarchical" else []
        if kind == "gossip":
            groups = topology.matching(training.topology, names, training.spec.seed, self.this.number)  # type: ignore[arg-type]
        return DataPath(kind=kind, peers=[self.by_id[name] for name in names], groups=groups, wait_s=self.this.deadline_s)

    def aggregate_request(self, aggregator: Peer, observation: RoundObservation) -> AggregateRound:
        this, training, spec = self.this, self.this.training, self.this.spec
        shared = hyperparameters(spec, this.number)
        return AggregateRound(
            training_id=training.training_id,
            round=this.number,
            model=training.model_spec,
            base_digest=training.digest or "",
            workers=[self.by_id[node.node_id] for node in self.expected],
            self_peer=aggregator,
            dataset=spec.dataset,
            data_format=data_format(spec),
            quorum=this.quorum,
            strategy=strategy_spec(spec),
            consensus=training.cluster.consensus,
            deadline_s=this.deadline_s,
            hyperparameters=shared,
            path=self.data_path(observation),
            compression=compression(spec),
            freeze_layers=spec.freeze_layers,
            secure_aggregation=spec.secure_aggregation,
            synchronous=None if spec.federated else shared,
            introductions={} if spec.federated else self._introductions(),
        )

    def train_request(self, worker: NodeSnapshot, aggregator: Peer, observation: RoundObservation) -> TrainRound:
        this, training, spec = self.this, self.this.training, self.this.spec
        return TrainRound(
            training_id=training.training_id,
            round=this.number,
            model=training.model_spec,
            base_digest=training.digest or "",
            dataset=spec.dataset,
            data_format=data_format(spec),
            hyperparameters=hyperparameters(spec, this.number, privacy.request_for(training, worker.node_id, this.number)),
            compression=compression(spec),
            secure_aggregation=spec.secure_aggregation,
            aggregator=aggregator,
            consensus=training.cluster.consensus,
            autonomy=Autonomy(enabled=training.cluster.daa_enabled, level=worker.autonomy),
            path=self.data_path(observation),
        )

    def _introductions(self) -> dict[str, list[Peer]]:
        """For each worker: all workers, with its own tokens for them."""
        peers = [self.by_id[node.node_id] for node in self.expected]
        introductions = {}
        for node in self.expected:
            keys = ClusterKeys(self.this.context.settings.secret_key, node.cluster_id)
            introductions[node.node_id] = with_tokens(peers, partial(keys.token_at, caller=node.caller))
        return introductions
