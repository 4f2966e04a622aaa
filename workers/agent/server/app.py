"""The agent's HTTP face: routes, whom each is for, and errors as JSON."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from workers.agent.aggregator.rounds import Aggregator
from workers.agent.datasets import shards
from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.auth import AuthMiddleware, refusal, require_role, require_self
from workers.agent.peers.client import PeerClient
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.protocol.admin import AgentConfig, AgentHealth
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound, Drop, ExchangeResult
from workers.agent.protocol.common import AgentProblem, Decision, Receipt, Stopped
from workers.agent.protocol.consensus import Audit, Ballot, Score
from workers.agent.protocol.exchange import Fallback
from workers.agent.protocol.exports import Export, Exported
from workers.agent.protocol.inference import Evaluate, Infer, Predict, Predictions
from workers.agent.protocol.training import ReplicateModel, ShardCheck, ShardReport, TrainingInit, TrainRound
from workers.agent.runtime import process
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import Root
from workers.agent.secure_aggregation.messages import PHASES, Asking, MaskKeys, SealedShares, Unmasking
from workers.agent.serving.calibrator import Calibrator
from workers.agent.serving.export import export
from workers.agent.serving.graph_cache import Graphs
from workers.agent.serving.infer import InferenceWorker
from workers.agent.serving.predict import Predictor
from workers.agent.storage.model_store import Store
from workers.agent.synchronous.coordinator import SyncCoordinator
from workers.agent.synchronous.routes import SynchronousRoutes
from workers.agent.synchronous.worker import SyncWorker
from workers.agent.training.local_round import LocalTraining
from workers.agent.worker.ballots import Voter
from workers.agent.worker.evaluation import Evaluator
from workers.agent.worker.replay import Replayer
from workers.agent.worker.rounds import Worker

_LONGEST_WAIT_S = 60.0
_LARGEST_UPDATE = 8 * 2**30
T = TypeVar("T", bound=BaseModel)


class _ModelFile(FileResponse):
    """A model is many megabytes, and each piece of it costs a hop to a thread and back."""

    chunk_size = 1 << 20


class Agent:
    """The parts of one agent, and the endpoints over them."""

    def __init__(self, config: AgentConfig, root: Root, log: Log, decisions: Sequence[Decision] = ()) -> None:
        """`decisions` are those that led to this process: its next round's report tells them."""
        self._config = config
        self._root = root
        self._log = log
        self._started = time.monotonic()
        self._store = Store(root.models)
        self._cache = ModelCache(root)
        exchange = PeerClient(config.key)
        self._model_fetcher = ModelFetcher(config.node_id, exchange, self._store, log)
        self._evaluator = Evaluator(config.node_id, exchange, self._store, self._cache, self._model_fetcher)
        self._replayer = Replayer(config.node_id, self._store, self._cache)
        pending_decisions = [*decisions]
        local = LocalTraining(config.node_id, self._store, self._cache)
        self._worker = Worker(config.node_id, exchange, self._store, self._model_fetcher, local, log, pending_decisions)
        self._aggregator = Aggregator(config.node_id, exchange, self._store, self._cache, log, pending_decisions)
        self._sync_worker = SyncWorker(
            config.node_id, exchange, self._store, self._cache, self._model_fetcher, log, pending_decisions
        )
        validate = self._aggregator.validation
        self._coordinator = SyncCoordinator(
            config.node_id, exchange, self._store, self._cache, validate, log, pending_decisions
        )
        self._calibrator = Calibrator(exchange, self._store, self._cache)
        self._predictor = Predictor(exchange, root, self._store, self._calibrator)
        self._inference_worker = InferenceWorker(config.node_id, self._store, self._cache, Graphs(), self._model_fetcher)

    def app(self) -> ASGIApp:
        synchronous_routes = SynchronousRoutes(self._sync_worker, self._coordinator)
        stop = Route("/trainings/{training_id}/stop", self._stop, methods=["POST"])
        routes = [
            *require_role(["control", "aggregator"], [stop]),
            *require_role(["control"], self._for_the_control_plane()),
            *require_role(["aggregator"], [*self._for_the_aggregator(), *synchronous_routes.for_the_aggregator()]),
            *require_role(["aggregator", "worker"], [*self._for_authors(), *synchronous_routes.for_authors()]),
            *require_role(["aggregator", "worker", "validator"], [Route("/models/{digest}", self._model)]),
        ]
        handlers = {
            AgentError: _refused,
            ValidationError: _invalid,
            ClientDisconnect: _left,
            HTTPException: _unknown,
            Exception: self._failed,
        }
        return AuthMiddleware(Starlette(routes=routes, exception_handlers=handlers), self._config.key)  # type: ignore[arg-type]

    def _for_the_control_plane(self) -> list[Route]:
        return [
            Route("/health", self._health),
            Route("/shards/check", _posted(ShardCheck, self._check), methods=["POST"]),
            Route("/trainings", _posted(TrainingInit, self._aggregator.init), methods=["POST"]),
            Route("/rounds/aggregate", _posted(AggregateRound, self._aggregate), methods=["POST"]),
            Route("/rounds/train", _posted(TrainRound, self._worker.start), methods=["POST"]),
            Route("/trainings/{training_id}/rounds/{number:int}", self._report),
            Route("/trainings/{training_id}/rounds/{number:int}/drop", self._drop, methods=["POST"]),
            Route("/models", _posted(ReplicateModel, self._model_fetcher.replicate_model), methods=["POST"]),
            Route("/evaluations", _posted(Evaluate, self._evaluator.evaluate), methods=["POST"]),
            Route("/ballots", _posted(Ballot, Voter(self._config.node_id, self._store).vote), methods=["POST"]),
            Route("/predictions", _posted(Predict, self._predict), methods=["POST"]),
            Route("/exports", _posted(Export, self._export), methods=["POST"]),
        ]

    def _for_the_aggregator(self) -> list[Route]:
        return [
            Route("/trainings/{training_id}/rounds/{number:int}/fallback", self._fallback, methods=["POST"]),
            Route("/scores", _posted(Score, self._evaluator.judge), methods=["POST"]),
            Route("/audits", _posted(Audit, self._replayer.audit), methods=["POST"]),
            Route("/trainings/{training_id}/rounds/{number:int}/evidence/{name}", self._evidence),
            Route("/inferences", _posted(Infer, self._inference_worker.infer), methods=["POST"]),
        ]

    def _for_authors(self) -> list[Route]:
        """What a worker says of itself, which each of these makes sure of; and its parts of an exchange, for the others."""
        number = "/trainings/{training_id}/rounds/{number:int}"
        return [
            Route(f"{number}/updates/{{node_id}}", self._update, methods=["PUT"]),
            Route(f"{number}/exchanged", self._exchanged, methods=["POST"]),
            Route(f"{number}/secure/{{phase}}", self._secure, methods=["POST"]),
            Route(f"{number}/parts/{{name}}", self._part),
        ]

    async def _health(self, _: Request) -> Response:
        return _json(
            AgentHealth(
                node_id=self._config.node_id,
                role=self._config.role,
                pid=os.getpid(),
                uptime_seconds=round(time.monotonic() - self._started, 3),
                threads=torch.get_num_threads(),
                cpu_cores=process.cpu_cores(),
                memory_gb=process.memory_gb(),
                rss_mb=process.rss_mb(),
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            )
        )

    async def _check(self, body: ShardCheck) -> ShardReport:
        return await asyncio.to_thread(shards.check, self._root, body, self._config.node_id)

    async def _predict(self, body: Predict) -> Predictions:
        # Predictions echo their texts, and a worker's data is not for the control plane.
        if body.input_data is not None and self._config.role != "aggregator":
            raise AgentError("not_an_aggregator", "only an aggregator reads files to predict on", 403)
        return await self._predictor.predict(body)

    async def _aggregate(self, body: AggregateRound) -> AggregateReport:
        if body.synchronous is None:
            return await self._aggregator.start(body)
        self._aggregator.need_training(body.training_id)
        return await self._coordinator.start(body, body.synchronous)

    async def _report(self, request: Request) -> Response:
        wait_s = _wait(request)
        training_id, number = request.path_params["training_id"], request.path_params["number"]
        leads = request.query_params.get("role") == "aggregator"
        if leads and self._coordinator.knows(training_id, number):
            return _json(await self._coordinator.report(wait_s))
        if not leads and self._sync_worker.knows(training_id, number):
            return _json(await self._sync_worker.report(wait_s))
        if leads:
            return _json(await self._aggregator.report(training_id, number, wait_s))
        return _json(await self._worker.report(training_id, number, wait_s))

    async def _drop(self, request: Request) -> Response:
        body = Drop.model_validate_json(await request.body())
        training_id, number = request.path_params["training_id"], request.path_params["number"]
        if self._coordinator.knows(training_id, number):
            return _json(self._coordinator.drop(body.node_ids))
        return _json(await self._aggregator.drop(training_id, number, body.node_ids))

    async def _stop(self, request: Request) -> Response:
        training_id = request.path_params["training_id"]
        parts = (self._worker, self._aggregator, self._sync_worker, self._coordinator)
        stopped = [part.stop(training_id) for part in parts]
        return _json(Stopped(stopped=any(stopped)))

    async def _update(self, request: Request) -> Response:
        training_id, number, node_id = (request.path_params[name] for name in ("training_id", "number", "node_id"))
        require_self(request, node_id)
        if not self._aggregator.expects(training_id, number, node_id):
            problem = AgentProblem(code="not_expected", message="no update of this node is waited for")
            return _json(Receipt(accepted=False, bytes=0, problem=problem))
        folder = self._store.updates(training_id)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as private:
            path = Path(private) / "update"
            size, started = 0, time.perf_counter()
            with path.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > _LARGEST_UPDATE:
                        raise AgentError("too_large", "the update is too large", 413)
                    file.write(chunk)
            return _json(await self._aggregator.receive(training_id, number, node_id, path, time.perf_counter() - started))

    async def _model(self, request: Request) -> Response:
        path = await self._store.awaited(request.path_params["digest"], _wait(request))
        return _ModelFile(path, media_type="application/octet-stream")

    async def _part(self, request: Request) -> Response:
        key = (request.path_params["training_id"], request.path_params["number"])
        path = await self._worker.parts.find(key, request.path_params["name"], _wait(request))
        return _ModelFile(path, media_type="application/octet-stream")

    async def _evidence(self, request: Request) -> Response:
        training_id, number, name = (request.path_params[key] for key in ("training_id", "number", "name"))
        path = await asyncio.to_thread(self._replayer.evidence, training_id, number, name)
        return _ModelFile(path, media_type="application/octet-stream")

    async def _exchanged(self, request: Request) -> Response:
        body = ExchangeResult.model_validate_json(await request.body())
        require_self(request, body.report.node_id)
        return _json(await self._aggregator.exchanged(request.path_params["training_id"], request.path_params["number"], body))

    async def _secure(self, request: Request) -> Response:
        found = self._aggregator.secure(request.path_params["training_id"], request.path_params["number"])
        wait_s, phase = _wait(request), request.path_params["phase"]
        if phase not in PHASES:
            raise AgentError("unknown_route", "a secure sum has no such phase", 404)
        message = PHASES[phase].model_validate_json(await request.body())
        require_self(request, message.node_id)
        match message:
            case MaskKeys():
                return _json(await found.take_keys(message, wait_s))
            case SealedShares():
                return _json(await found.take_shares(message, wait_s))
            case Asking():
                return _json(await found.tell_survivors(message, wait_s))
            case Unmasking():
                return _json(await found.take_unmasking(message, wait_s))

    async def _fallback(self, request: Request) -> Response:
        body = Fallback.model_validate_json(await request.body())
        self._log("fallback", round=request.path_params["number"], reason=body.reason)
        fallen = self._worker.fall_back(request.path_params["training_id"], request.path_params["number"])
        return _json(Stopped(stopped=fallen))

    async def _export(self, body: Export) -> Exported:
        temperature = await self._calibrator.temperature(body)
        return await asyncio.to_thread(export, self._root, self._store, self._cache, body, temperature)

    async def _failed(self, request: Request, error: Exception) -> Response:
        self._log("failed", path=request.scope["path"][:200], error=type(error).__name__)
        return refusal(AgentError("agent_failed", f"the agent failed with {type(error).__name__}", 500))


def _wait(request: Request) -> float:
    try:
        return min(_LONGEST_WAIT_S, max(0.0, float(request.query_params.get("wait", "0"))))
    except ValueError:
        raise AgentError("invalid_message", "wait must be a number of seconds") from None


def _json(message: BaseModel) -> Response:
    return Response(message.model_dump_json(), media_type="application/json")


def _posted(kind: type[T], use: Callable[[T], Awaitable[BaseModel]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads one message and answers with another."""
    return partial(_answer, kind, use)


async def _answer(kind: type[T], use: Callable[[T], Awaitable[BaseModel]], request: Request) -> Response:
    return _json(await use(kind.model_validate_json(await request.body())))


async def _refused(_: Request, error: AgentError) -> Response:
    return refusal(error)


async def _invalid(_: Request, error: ValidationError) -> Response:
    where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])[:200]
    return refusal(AgentError("invalid_message", f"the message has the wrong form at {where or 'its root'}"))


async def _unknown(_: Request, error: HTTPException) -> Response:
    return refusal(AgentError("unknown_route", "this agent has no such route", error.status_code))


async def _left(_: Request, __: ClientDisconnect) -> Response:
    return refusal(AgentError("disconnected", "the sender went away", 400))
