"""A worker's rounds: pull the base, train on the own shard, push the update."""

import asyncio
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from workers.agent import tensors
from workers.agent.autonomy import RETRY, may
from workers.agent.consensus.commitment import as_sent
from workers.agent.errors import AgentError, StoppedError
from workers.agent.evaluate import measure, score
from workers.agent.exchange import Exchange
from workers.agent.freezing import frozen_names
from workers.agent.logs import Log
from workers.agent.model import Network
from workers.agent.parts import Parts
from workers.agent.protocol import (
    DataPath,
    Evaluate,
    Evaluation,
    Exchanged,
    Keep,
    Kept,
    Link,
    Peer,
    Problem,
    Receipt,
    Score,
    Scores,
    TrainReport,
    TrainRound,
)
from workers.agent.rounds import Watched
from workers.agent.shelf import Shelf
from workers.agent.store import Store
from workers.agent.topologies.hierarchical import head_of
from workers.agent.topologies.meeting import UPDATE, Meeting
from workers.agent.topologies.patterns import PATTERNS
from workers.agent.train import Job, train
from workers.agent.update import Packed, pack

T = TypeVar("T")
_RETRY_PAUSES_S = (0.5, 1.0, 2.0)
_HEAD_WAIT_S = 20.0
_ANSWER_S = 120.0
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
        self._fallen = asyncio.Event()
        self._request: TrainRound | None = None
        self.parts = Parts()
        self._task: asyncio.Task[None] | None = None
        # The newest round's file, and what a sparse update leaves out for the next.
        self._update: tuple[Path, tensors.State | None] = (Path(), None)
        self._moments: tuple[str, int, dict[str, Any]] | None = None

    async def start(self, request: TrainRound) -> TrainReport:
        """Begin a round, or report on it if it has begun. One that was stopped or has failed is begun again; of one that is
        trained and whose update did not arrive, only the update is sent again."""
        key = (request.training_id, request.round)
        if self._round is not None and self._key == key:
            if _unsent(self._round.report, request):
                return self._send_again(request)
            if self._round.state in ("running", "done"):
                return self._round.report
        if self._key is None or self._key[0] != key[0]:
            self._shelf.forget_data()
        self._stop.set()
        self._fallen.set()
        self._stop, self._fallen, self._request = threading.Event(), asyncio.Event(), request
        self.parts.begin(key, self._store.folder(request.training_id) / "exchange")
        report = TrainReport(node_id=self._node_id, training_id=key[0], round=key[1], state="running")
        self._key, self._round = key, Watched(report, "running")
        self._task = asyncio.create_task(self._run(self._round, request, self._stop, self._fallen))
        return report

    def _send_again(self, request: TrainRound) -> TrainReport:
        assert self._round is not None
        trained = self._round.report
        self._round = Watched(trained.model_copy(update={"state": "running", "problem": None}), "running")
        self._task = asyncio.create_task(self._run(self._round, request, self._stop, self._fallen, trained))
        return self._round.report

    async def report(self, training_id: str, number: int, wait_s: float) -> TrainReport:
        """AgentError `unknown_round` for any but the newest round."""
        if self._round is None or self._key != (training_id, number):
            raise AgentError("unknown_round", "this agent knows no such round", 404)
        return await self._round.closed(wait_s)

    def stop(self, training_id: str) -> bool:
        if self._round is None or self._key is None or self._key[0] != training_id or not self._round.is_open:
            return False
        self._stop.set()
        self._fallen.set()
        return True

    def fall_back(self, training_id: str, number: int) -> bool:
        """Give up the exchange with the other workers and send the own update to the aggregator, now or once it is there."""
        request = self._request
        if self._round is None or request is None or self._key != (training_id, number):
            return False
        self._fallen.set()
        self.parts.end()
        if self._round.state == "done":
            self._send_again(request)
        return True

    async def _run(
        self,
        watched: Watched[TrainReport],
        request: TrainRound,
        stop: threading.Event,
        fallen: asyncio.Event,
        trained: TrainReport | None = None,
    ) -> None:
        try:
            if trained is None:
                await self._train(watched, request, stop, fallen)
            else:
                await self._send(watched, request, trained)
        except StoppedError:
            watched.change(state="stopped")
        except AgentError as error:
            watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, whoever polls this round must hear of it
            message = f"the round failed with {type(error).__name__}"
            watched.change(state="failed", problem=Problem(code="agent_failed", message=message))
        report = watched.report
        if report.state != "done" and watched is self._round:
            self.parts.end()
        self._log(
            "round",
            round=report.round,
            state=report.state,
            samples=report.samples,
            train_seconds=report.train_seconds,
            problem=report.problem.code if report.problem else None,
        )

    async def _train(
        self, watched: Watched[TrainReport], request: TrainRound, stop: threading.Event, fallen: asyncio.Event
    ) -> None:
        started = time.perf_counter()
        links = await self._tried(watched, request, lambda: self._base(request))
        pull_seconds = time.perf_counter() - started
        watched.report = watched.report.model_copy(update={"links": links})
        report = await asyncio.to_thread(self._locally, watched, request, stop, pull_seconds)
        # Kept with the figures, so that a push that fails can be made again without training.
        watched.report = report.model_copy(update={"state": "running"})
        exchanging = time.perf_counter()
        if request.path is not None and await self._meet(watched, request, request.path, report, fallen):
            seconds = time.perf_counter() - exchanging
            watched.change(**{**dict(report), "push_seconds": seconds, "decisions": watched.report.decisions})
            return
        if stop.is_set():
            raise StoppedError
        await self._send(watched, request, report)

    async def _send(self, watched: Watched[TrainReport], request: TrainRound, report: TrainReport) -> None:
        pushing = time.perf_counter()
        update, residual = self._update
        receipt = await self._tried(
            watched,
            request,
            lambda: self._exchange.push(request.aggregator, request.training_id, request.round, self._node_id, update),
        )
        if receipt.accepted and residual is not None:
            await asyncio.to_thread(tensors.write, update.with_name(_RESIDUAL), residual)
        final = {
            **dict(report),
            "state": "done",
            "push_seconds": time.perf_counter() - pushing,
            "bytes_sent": receipt.bytes,
            "problem": receipt.problem,
            "decisions": watched.report.decisions,
        }
        watched.change(**final)

    def _local_model(self, request: TrainRound) -> Path:
        return self._store.folder(request.training_id) / LOCAL_MODEL

    async def _base(self, request: TrainRound) -> list[Link]:
        """Have the round's base: from the head of the own group where there is one, else from the aggregator."""
        head = head_of(request.path, self._node_id) if request.path else None
        return await self._from_above(request.training_id, request.base_digest, head, request.aggregator)

    async def _from_above(self, training_id: str, digest: str, head: Peer | None, source: Peer) -> list[Link]:
        """Have a global model, if not from the head of the group then from `source`."""
        if head is not None and self._store.find(digest) is None:
            try:
                return await self._pulled(training_id, digest, head, _HEAD_WAIT_S)
            except AgentError as error:
                self._log("no_copy", node=head.node_id, problem=error.code)
        return await self.need(training_id, digest, source)

    async def _meet(
        self,
        watched: Watched[TrainReport],
        request: TrainRound,
        path: DataPath,
        report: TrainReport,
        fallen: asyncio.Event,
    ) -> bool:
        """Exchange the update with the other workers; False where the update must go to the aggregator after all."""
        update = self._local_model(request)
        meeting = Meeting(
            self._node_id,
            request.training_id,
            request.round,
            path,
            self._store.need(request.base_digest),
            update,
            report.samples or 0,
            self._exchange,
            self.parts,
        )
        meeting.offer(UPDATE, update)
        exchange = asyncio.create_task(self._exchanged(request, meeting, report))
        told = asyncio.create_task(fallen.wait())
        try:
            await asyncio.wait({exchange, told}, return_when=asyncio.FIRST_COMPLETED)
            if not exchange.done():
                return False
            found = exchange.result()
        finally:
            for task in (exchange, told):
                task.cancel()
            await asyncio.gather(exchange, told, return_exceptions=True)
        if found.problem is not None:
            self.parts.end()
        tell = f"/trainings/{request.training_id}/rounds/{request.round}/exchanged"
        receipt = await self._tried(
            watched,
            request,
            lambda: self._exchange.ask(request.aggregator, tell, found, Receipt, within_s=_ANSWER_S),
        )
        return receipt.accepted and not fallen.is_set()

    async def _exchanged(self, request: TrainRound, meeting: Meeting, report: TrainReport) -> Exchanged:
        try:
            mean = await PATTERNS[meeting.path.kind](meeting)
        except AgentError as error:
            self._log("no_exchange", round=request.round, problem=error.code)
            return Exchanged(report=report, problem=error.problem)
        full = report.model_copy(update={"links": [*report.links, *meeting.links.values()]})
        if mean is None:
            return Exchanged(report=full)
        saved = await asyncio.to_thread(self._store.save, request.training_id, mean.state)
        self._store.prune(request.training_id, {request.base_digest, saved.digest}, older=1)
        return Exchanged(report=full, digest=saved.digest, samples=mean.samples)

    def _locally(
        self, watched: Watched[TrainReport], request: TrainRound, stop: threading.Event, pull_seconds: float
    ) -> TrainReport:
        """Train, and write the update's file with its report in the metadata."""
        folder = self._store.folder(request.training_id)

        def progress(part: float) -> None:
            watched.report = watched.report.model_copy(update={"progress": part})

        with self._shelf.lock:
            wanted = request.hyperparameters
            network = self._shelf.loaded(request.model, self._store.need(request.base_digest))
            shard = self._shelf.shard(request.model, request.dataset, wanted.freeze_layers)
            commit = request.consensus == "proof-of-learning"
            job = Job(
                request.round,
                wanted,
                request.autonomy,
                request.base_digest,
                commit,
                stop,
                progress,
                self._moments_for(request),
            )
            found = train(network, shard, job)
            if found.moments is not None:
                self._moments = (request.training_id, request.round, found.moments)
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
                    "decisions": [*watched.report.decisions, *found.decisions],
                }
            )
            metadata = {"report": report.model_dump_json()}
            state = tensors.state_of(network.model)
            whole = packed.parts.keys() == state.keys() and request.compression.is_none
            tensors.write(folder / LOCAL_MODEL, state, metadata)
            if not whole:
                tensors.write_parts(folder / _UPDATE, packed.parts, metadata)
        self._update = (folder / (LOCAL_MODEL if whole else _UPDATE), packed.residual)
        return report

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

    def _moments_for(self, request: TrainRound) -> dict[str, Any] | None:
        """What the optimizer goes on from: its state after this worker's last round, where it is kept and still here."""
        if not request.hyperparameters.keep_moments or self._moments is None:
            return None
        training_id, number, moments = self._moments
        return moments if training_id == request.training_id and number < request.round else None

    async def _tried(self, watched: Watched[TrainReport], request: TrainRound, transfer: Callable[[], Awaitable[T]]) -> T:
        """A transfer, tried again where the node's autonomy allows it."""
        for pause in _RETRY_PAUSES_S if may(RETRY, request.autonomy) else ():
            try:
                return await transfer()
            except AgentError as error:
                decision = RETRY.decision(f"{error.message}; trying again in {pause:g} s")
                watched.change(decisions=[*watched.report.decisions, decision])
                await asyncio.sleep(pause)
        return await transfer()

    async def need(self, training_id: str, digest: str, source: Peer) -> list[Link]:
        """Have a global model, from `source` if it is not here; returns what that cost. Of older ones the newest stays: until
        the control plane has recorded a round, its base is what an aggregator that is lost is restored from."""
        return await self._pulled(training_id, digest, source) if self._store.find(digest) is None else []

    async def _pulled(self, training_id: str, digest: str, source: Peer, wait_s: float = 0) -> list[Link]:
        size, seconds = await self._exchange.fetch(source, digest, self._store.path(training_id, digest), wait_s)
        self._store.prune(training_id, {digest}, older=1)
        return [Link(source=source.node_id, target=self._node_id, bytes=size, seconds=seconds)]

    async def keep(self, request: Keep) -> Kept:
        links = await self._from_above(request.training_id, request.digest, request.head, request.source)
        return Kept(node_id=self._node_id, digest=request.digest, links=links)

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
            found = measure(self._shelf.loaded(request.model, self._store.need(request.digest)), samples)
            if request.held_out:
                self._shelf.remember(request.digest, found)
        return Evaluation(
            node_id=self._node_id,
            digest=request.digest,
            samples=len(samples),
            loss=found.loss,
            accuracy=found.accuracy,
            seconds=time.perf_counter() - started,
        )

    async def judge(self, request: Score) -> Scores:
        """Accuracy of the base and of each candidate on this worker's own held-out samples."""
        await self.need(request.training_id, request.base_digest, request.source)
        folder = self._store.updates(request.training_id)
        try:
            for digest in request.candidates.values():
                name = self._store.path(request.training_id, digest).name
                await self._exchange.pull(request.source, digest, folder / name)
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


def _unsent(report: TrainReport, request: TrainRound) -> bool:
    if report.state == "done":
        return request.resend
    return report.state == "failed" and report.problem is not None and report.problem.code == "push_failed"
