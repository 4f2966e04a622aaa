"""All parts of one agent."""

from collections.abc import Sequence
from dataclasses import dataclass

from workers.agent.aggregator.rounds import Aggregator
from workers.agent.context import AgentContext
from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Decision
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving.calibrator import Calibrator
from workers.agent.serving.graph_cache import GraphCache
from workers.agent.serving.graph_preparer import GraphPreparer
from workers.agent.serving.infer import InferenceWorker
from workers.agent.serving.predict import Predictor
from workers.agent.storage.model_store import ModelStore
from workers.agent.synchronous.coordinator import SyncCoordinator
from workers.agent.synchronous.worker import SyncWorker
from workers.agent.training.preparing import Preparer
from workers.agent.worker.ballots import Voter
from workers.agent.worker.evaluation import Evaluator
from workers.agent.worker.replay import Replayer
from workers.agent.worker.rounds import Worker


@dataclass(frozen=True, slots=True)
class AgentParts:
    config: AgentConfig
    root: SandboxRoot
    log: Log
    store: ModelStore
    cache: ModelCache
    fetcher: ModelFetcher
    preparer: Preparer
    worker: Worker
    aggregator: Aggregator
    sync_worker: SyncWorker
    coordinator: SyncCoordinator
    evaluator: Evaluator
    replayer: Replayer
    voter: Voter
    calibrator: Calibrator
    predictor: Predictor
    inference_worker: InferenceWorker
    graph_preparer: GraphPreparer

    @classmethod
    def create(cls, config: AgentConfig, root: SandboxRoot, log: Log, decisions: Sequence[Decision]) -> "AgentParts":
        """Return the parts of a new agent. `decisions` led to its start."""
        context = AgentContext.create(config.node_id, config.key, root, log, decisions)
        node_id, store, cache, fetcher = context.node_id, context.store, context.cache, context.fetcher
        aggregator = Aggregator(context)
        calibrator = Calibrator(context.peers, store, cache)
        inference_worker = InferenceWorker(node_id, store, cache, GraphCache(), fetcher)
        return cls(
            config=config,
            root=root,
            log=log,
            store=store,
            cache=cache,
            fetcher=fetcher,
            preparer=Preparer(context, root),
            worker=Worker(context),
            aggregator=aggregator,
            sync_worker=SyncWorker(context),
            coordinator=SyncCoordinator(context, aggregator.validate),
            evaluator=Evaluator(context),
            replayer=Replayer(node_id, store, cache),
            voter=Voter(node_id, store),
            calibrator=calibrator,
            predictor=Predictor(context.peers, root, store, calibrator),
            inference_worker=inference_worker,
            graph_preparer=GraphPreparer(context, inference_worker),
        )
