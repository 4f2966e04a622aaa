"""The parts of an agent that its workers, aggregators and coordinators share."""

from collections.abc import Iterable
from dataclasses import dataclass

from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.client import PeerClient
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.protocol.common import Decision
from workers.agent.runtime.autonomy import PendingDecisions
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage.model_store import ModelStore


@dataclass(frozen=True, slots=True)
class AgentContext:
    node_id: str
    root: SandboxRoot
    peers: PeerClient
    store: ModelStore
    cache: ModelCache
    fetcher: ModelFetcher
    log: Log
    pending_decisions: PendingDecisions

    @classmethod
    def create(cls, node_id: str, key: str, root: SandboxRoot, log: Log, decisions: Iterable[Decision] = ()) -> "AgentContext":
        """Return a new agent's parts. `key` is the agent's own; `decisions` led to its start."""
        peers, store = PeerClient(key), ModelStore(root.models)
        fetcher = ModelFetcher(node_id, peers, store, log)
        return cls(node_id, root, peers, store, ModelCache(root), fetcher, log, PendingDecisions(decisions))
