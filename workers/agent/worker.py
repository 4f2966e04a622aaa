"""A worker's rounds: pull the base, train on the own shard, push the update."""

import asyncio
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import torch

from workers.agent import tensors
from workers.agent.autonomy import RETRY, may
from workers.agent.consensus.commitment import as_sent
from workers.agent.errors import AgentError, StoppedError
from workers.agent.evaluate import score
from workers.agent.exchange import Exchange
from workers.agent.freezing import frozen_names
from workers.agent.logs import Log
from workers.agent.model import Network
from workers.agent.protocol import Decision, Evaluate, Evaluation, Peer, Problem, Score, Scores, TrainReport, TrainRound
from workers.agent.rounds import Watched
from workers.agent.shelf import Shelf
from workers.agent.store import Store
from workers.agent.train import Job, train
from workers.agent.update import Packed, pack

T = TypeVar("T")
_RETRY_PAUSES_S = (0.5, 1.0, 2.0)
LOCAL_MODEL = "local.safetensors"
_UPDATE = "update.safetensors"
_RESIDUAL = "residual.safetensors"


class Worker:
    def __init__(self, node_id: str, exchange: Exchange, store: Store, shelf: Shelf, log: Log) -> None:
        self._node_id = node_id
        self._exchange = exchange
        self._store = store
        self._shelf = shelf
        self._log = log
        self._key: tuple[str, int] | None = None
        self._round: Watched[TrainReport] | None = None
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, request: TrainRound) -> TrainReport:
        """Begin a round, or report on it if it has begun. One that was stopped or has failed is begun again."""
        key = (request.training_id, request.round)
        if self._round is not None and self._key == key and self._round.state in ("running", "done"):
            return self._round.report
        if self._key is None or self._key[0] != key[0]:
            self._shelf.forget_data()
        self._stop.set()
        self._stop = threading.Event()
        report = TrainReport(node_id=self._node_id, training_id=key[0], round=key[1], state="running")
        self._key, self._round = key, Watched(report, "running")
        self._task = asyncio.create_task(self._run(self._round, request, self._stop))
        return report

    async def report(self, training_id: str, number: int, wait_s: float) -> TrainReport:
        """AgentError `unknown_round` for any but the newest round."""
        if self._round is None or self._key != (training_id, number):
            raise AgentError("unknown_round", "this agent knows no such round", 404)
        return await self._round.closed(wait_s)

    def stop(self, training_id: str) -> bool:
        if self._round is None or self._key is None or self._key[0] != training_id or not self._round.is_open:
            return False
        self._stop.set()
        return True

    async def _run(self, watched: Watched[TrainReport], request: TrainRound, stop: threading.Event) -> None:
        try:
            await self._train(watched, request, stop)
        except StoppedError:
            watched.change(state="stopped")
        except AgentError as error:
            watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, whoever polls this round must hear of it
            message = f"the round failed with {type(error).__name__}"
            watched.change(state="failed", problem=Problem(code="agent_failed", message=message))
        report = watched.report
        self._log(
            "round",
            round=report.round,
            state=report.state,
            samples=report.samples,
            train_seconds=report.train_seconds,
            problem=report.problem.code if report.problem else None,
        )

    async def _train(self, watched: Watched[TrainReport], request: TrainRound, stop: threading.Event) -> None:
        decisions: list[Decision] = []
        started = time.perf_counter()
        await self._tried(request, decisions, lambda: self.need(request.training_id, request.base_digest, request.aggregator))
        pull_seconds = time.perf_counter() - started
        folder = self._store.folder(request.training_id)
        report, update, residual = await asyncio.to_thread(self._locally, watched, request, stop, folder, pull_seconds)
        decisions += report.decisions
        pushing = time.perf_counter()
        receipt = await self._tried(
            request,
            decisions,
            lambda: self._exchange.push(request.aggregator, request.training_id, request.round, self._node_id, update),
        )
        if receipt.accepted and residual is not None:
            await asyncio.to_thread(tensors.write, folder / _RESIDUAL, residual)
        final = {
            **dict(report),
            "push_seconds": time.perf_counter() - pushing,
            "bytes_sent": receipt.bytes,
            "problem": receipt.problem,
            "decisions": decisions,
        }
        watched.change(**final)

    def _locally(
        self, watched: Watched[TrainReport], request: TrainRound, stop: threading.Event, folder: Path, pull_seconds: float
    ) -> tuple[TrainReport, Path, tensors.State | None]:
        """Train, and write the update's file with its report in the metadata.

        Returns the report, the file, and what a sparse update leaves out for the next.
        """

        def progress(part: float) -> None:
            watched.report = watched.report.model_copy(update={"progress": part})

        with self._shelf.lock:
            wanted = request.hyperparameters
            network = self._shelf.loaded(request.model, self._store.need(request.base_digest))
            shard = self._shelf.shard(request.model, request.dataset, wanted.freeze_layers)
            commit = request.consensus == "proof-of-learning"
            job = Job(request.round, wanted, request.autonomy, request.base_digest, commit, stop, progress)
            found = train(network, shard, job)
            packed = self._packed(request, network, folder)
            commitment = found.commitment
            if commitment is not None and not request.compression.is_none:
                commitment = as_sent(commitment, request.base_digest, tensors.state_digest(packed.state))
            report = watched.report.model_copy(
                update={
                    "state": "done",
                    "progress": 1.0,
                    "samples": len(shard.training),
                    "loss": found.loss,
                    "accuracy": found.accuracy,
                    "train_seconds": found.seconds,
                    "pull_seconds": pull_seconds,
                    "commitment": commitment,
                    "decisions": found.decisions,
                }
            )
            metadata = {"report": report.model_dump_json()}
            state = tensors.state_of(network.model)
            whole = packed.parts.keys() == state.keys() and request.compression.is_none
            tensors.write(folder / LOCAL_MODEL, state, metadata)
            if not whole:
                tensors.write_parts(folder / _UPDATE, packed.parts, metadata)
        return report, folder / (LOCAL_MODEL if whole else _UPDATE), packed.residual

    def _packed(self, request: TrainRound, network: Network, folder: Path) -> Packed:
        wanted, path = request.hyperparameters, folder / _RESIDUAL
        random = torch.Generator()
        random.manual_seed(zlib.crc32(f"{wanted.seed}/{request.round}/{self._node_id}".encode()))
        return pack(
            tensors.state_of(network.model),
            {} if request.compression.is_none else tensors.read(self._store.need(request.base_digest)),
            frozen_names(network.model, wanted.freeze_layers),
            request.compression,
            tensors.read(path) if request.compression.sparse and path.exists() else None,
            random,
        )

    async def _tried(self, request: TrainRound, decisions: list[Decision], transfer: Callable[[], Awaitable[T]]) -> T:
        """A transfer, tried again where the node's autonomy allows it."""
        for pause in _RETRY_PAUSES_S if may(RETRY, request.autonomy) else ():
            try:
                return await transfer()
            except AgentError as error:
                decisions.append(RETRY.decision(f"{error.message}; trying again in {pause:g} s"))
                await asyncio.sleep(pause)
        return await transfer()

    async def need(self, training_id: str, digest: str, source: Peer) -> None:
        """Have a global model, from `source` if it is not here; older ones go."""
        if self._store.find(digest) is None:
            await self._exchange.pull(source, digest, self._store.path(training_id, digest))
            self._store.prune(training_id, {digest})

    async def evaluate(self, request: Evaluate) -> Evaluation:
        """Mean cross-entropy (nats) and accuracy of a global model on this node's data."""
        await self.need(request.training_id, request.digest, request.source)
        return await asyncio.to_thread(self._evaluate, request)

    def _evaluate(self, request: Evaluate) -> Evaluation:
        started = time.perf_counter()
        with self._shelf.lock:
            if request.held_out:
                samples = self._shelf.shard(request.model, request.dataset).held_out
            else:
                samples = self._shelf.samples(request.model, request.dataset)
            loss, accuracy = score(self._shelf.loaded(request.model, self._store.need(request.digest)), samples)
        return Evaluation(
            node_id=self._node_id,
            digest=request.digest,
            samples=len(samples),
            loss=loss,
            accuracy=accuracy,
            seconds=time.perf_counter() - started,
        )

    async def judge(self, request: Score) -> Scores:
        """Accuracy of the base and of each candidate on this worker's own held-out samples."""
        await self.need(request.training_id, request.base_digest, request.source)
        folder = self._store.updates(request.training_id)
        try:
            for digest in request.candidates.values():
                await self._exchange.pull(request.source, digest, folder / f"{digest}.safetensors")
            return await asyncio.to_thread(self._judge, request)
        finally:
            self._store.clear_updates(request.training_id)

    def _judge(self, request: Score) -> Scores:
        with self._shelf.lock:
            samples = self._shelf.shard(request.model, request.dataset).held_out.first(request.limit)

            def accuracy(digest: str) -> float:
                return score(self._shelf.loaded(request.model, self._store.need(digest)), samples)[1]

            return Scores(
                node_id=self._node_id,
                samples=len(samples),
                base=accuracy(request.base_digest),
                candidates={node_id: accuracy(digest) for node_id, digest in request.candidates.items()},
            )
