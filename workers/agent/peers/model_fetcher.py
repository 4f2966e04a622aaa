"""Copies of global models: which other agent has one, and what fetching it costs."""

from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.protocol.training import ReplicateModel, ReplicateResult
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.storage.model_store import ModelStore

_HEAD_WAIT_S = 20.0


class ModelFetcher:
    """Fetches models into the store. AgentError `pull_failed` or `digest_mismatch` when it cannot."""

    def __init__(self, node_id: str, exchange: PeerClient, store: ModelStore, log: Log) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._store = store
        self._log = log

    async def ensure_model(self, training_id: str, digest: str, source: Peer) -> list[LinkUse]:
        """Have a global model, from `source` if it is not here; returns what that cost. Of older ones the newest stays: until
        the control plane has recorded a round, its base is what an aggregator that is lost is restored from."""
        return await self._pulled(training_id, digest, source) if self._store.find(digest) is None else []

    async def _pulled(self, training_id: str, digest: str, source: Peer, wait_s: float = 0) -> list[LinkUse]:
        size, seconds = await self._peers.fetch_model(source, digest, self._store.path(training_id, digest), wait_s)
        self._store.prune(training_id, {digest}, older=1)
        return [LinkUse(source=source.node_id, target=self._node_id, bytes=size, seconds=seconds)]

    async def fetch_from_head(self, training_id: str, digest: str, head: Peer | None, source: Peer) -> list[LinkUse]:
        """Have a global model, if not from the head of the group then from `source`."""
        if head is not None and self._store.find(digest) is None:
            try:
                return await self._pulled(training_id, digest, head, _HEAD_WAIT_S)
            except AgentError as error:
                self._log("no_copy", node=head.node_id, problem=error.code)
        return await self.ensure_model(training_id, digest, source)

    async def replicate_model(self, request: ReplicateModel) -> ReplicateResult:
        links = await self.fetch_from_head(request.training_id, request.digest, request.head, request.source)
        return ReplicateResult(node_id=self._node_id, digest=request.digest, links=links)
