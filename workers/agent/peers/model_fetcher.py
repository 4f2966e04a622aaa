"""Copies of global models: this agent fetches them from other agents."""

from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.protocol.training import ReplicateModel, ReplicateResult, TrainRound
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.storage.model_store import ModelStore

_HEAD_WAIT_S = 20.0
_NEW_MODEL_WAIT_S = 20.0


class ModelFetcher:
    """Fetches models into the store.

    Its methods raise AgentError `pull_failed` or `digest_mismatch` when they cannot.
    """

    def __init__(self, node_id: str, exchange: PeerClient, store: ModelStore, log: Log) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._store = store
        self._log = log

    async def ensure_model(self, training_id: str, digest: str, source: Peer) -> list[LinkUse]:
        """Fetch a global model from `source` if it is not in the store; return the transfer.

        The newest of the older models stays in the store. Until the control plane has recorded a
        round, a restored aggregator starts from the round's base.
        """
        return await self._fetch(training_id, digest, source) if self._store.find(digest) is None else []

    async def _fetch(self, training_id: str, digest: str, source: Peer, wait_s: float = 0) -> list[LinkUse]:
        size, seconds = await self._peers.fetch_model(source, digest, self._store.path(training_id, digest), wait_s)
        self._store.prune(training_id, {digest}, older=1)
        return [LinkUse(source=source.node_id, target=self._node_id, bytes=size, seconds=seconds)]

    async def fetch_new_model(self, request: TrainRound) -> ReplicateResult | None:
        """Fetch the model that a round gives from its aggregator. None while there is none.

        The round's base stays in the store, because the round may be repeated.
        """
        path = f"/trainings/{request.training_id}/rounds/{request.round}/model?wait={_NEW_MODEL_WAIT_S:g}"
        fetched = await self._peers.fetch_round_model(request.aggregator, path, self._store.folder(request.training_id))
        if fetched is None:
            return None
        digest, size, seconds = fetched
        self._store.prune(request.training_id, {digest, request.base_digest})
        link = LinkUse(source=request.aggregator.node_id, target=self._node_id, bytes=size, seconds=seconds)
        return ReplicateResult(node_id=self._node_id, digest=digest, links=[link])

    async def fetch_from_head(self, training_id: str, digest: str, head: Peer | None, source: Peer) -> list[LinkUse]:
        """Fetch a global model from the head of the group, or from `source` if that fails."""
        if head is not None and self._store.find(digest) is None:
            try:
                return await self._fetch(training_id, digest, head, _HEAD_WAIT_S)
            except AgentError as error:
                self._log("no_copy", node=head.node_id, problem=error.code)
        return await self.ensure_model(training_id, digest, source)

    async def replicate_model(self, request: ReplicateModel) -> ReplicateResult:
        links = await self.fetch_from_head(request.training_id, request.digest, request.head, request.source)
        return ReplicateResult(node_id=self._node_id, digest=request.digest, links=links)
