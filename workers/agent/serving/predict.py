"""Distributed prediction at the aggregator.

The workers compute probabilities. The aggregator splits the texts and combines the answers.
`global`: every worker has the global model and gets a part of the texts. All other aggregations:
every worker gets every text. It uses its own last local model, or the global model where it has
none. It calibrates the probabilities before they are combined. So an overconfident model
gains no weight. The share of votes of `majority` is not calibrated.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from workers.agent.datasets import shards
from workers.agent.modeling import calibration
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.inference import (
    CalibrationSums,
    InferenceResult,
    InferTexts,
    NodeVote,
    PredictionResult,
    PredictTexts,
    TextPrediction,
)
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import combine, input_file, text_counts
from workers.agent.serving.calibrator import Calibrator
from workers.agent.serving.scoring import Score, score
from workers.agent.storage.model_store import ModelStore

_WITHIN_S = 300.0
# The texts that one worker gets at once. Progress is known, and work can stop, between two parts.
_PART = 2_000


@dataclass(slots=True)
class RunningPrediction:
    """A prediction at work, and the part of its texts that is done."""

    task: asyncio.Task[PredictionResult]
    progress: float | None = None


class Predictor:
    """Answers `PredictTexts` requests."""

    def __init__(self, exchange: PeerClient, root: SandboxRoot, store: ModelStore, calibrator: Calibrator) -> None:
        self._peers = exchange
        self._root = root
        self._store = store
        self._calibrator = calibrator
        self._running: dict[str, RunningPrediction] = {}

    async def run(self, request: PredictTexts) -> PredictionResult:
        """Predict, so that the work can be followed and stopped by its id.

        Raises:
            AgentError: `cancelled`, and the errors of `predict`.
        """
        prediction_id = request.prediction_id
        if prediction_id is None:
            return await self.predict(request)
        task = asyncio.create_task(self.predict(request))
        running = self._running[prediction_id] = RunningPrediction(task)
        try:
            # The sender's retry takes over the id. Each request ends only its own entry.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise AgentError("cancelled", "the prediction was cancelled", 409) from None
        finally:
            if self._running.get(prediction_id) is running:
                del self._running[prediction_id]

    def progress(self, prediction_id: str) -> float | None:
        """Return the part of the texts that is done. None while it is not known."""
        running = self._running.get(prediction_id)
        return None if running is None else running.progress

    def cancel(self, prediction_id: str) -> bool:
        """Stop a running prediction. Return False if there is none."""
        running = self._running.get(prediction_id)
        return running is not None and running.task.cancel()

    async def predict(self, request: PredictTexts) -> PredictionResult:
        """Predict the labels of the texts.

        Raises:
            AgentError: `unknown_model`, `nodes_unreachable`, and the errors of reading
            `input_data`.
        """
        started = time.perf_counter()
        self._store.require(request.digest)
        samples = await asyncio.to_thread(self._input, request)
        texts = samples.texts
        split = request.aggregation == "global"
        combined = await (self._split(request, texts) if split else self._ask_all(request, texts))
        # The labels come from the table before calibration, because rounding must not change them.
        best = combined.table.argmax(1)
        calibrated = calibration.apply_temperature(combined.table, combined.temperature)
        confidences = calibrated.gather(1, best[:, None]).squeeze(1).clamp(max=1.0)
        predicted = [request.model.labels[index] for index in best.tolist()]
        scored = Score() if request.input_data is None else score(samples, predicted, request.model.labels)
        every = [answer.counts for answer in combined.answers]
        counts = text_counts.total(every) if split else text_counts.middle(every)
        return PredictionResult(
            predictions=[
                TextPrediction(text=text, sentiment=label, confidence=confidence)
                for text, label, confidence in zip(texts, predicted, confidences.tolist(), strict=True)
            ],
            temperature=combined.temperature,
            temperatures={} if split else {answer.node_id: answer.temperature for answer in combined.answers},
            engines={answer.node_id: answer.engine for answer in combined.answers},
            votes={answer.node_id: _votes(answer, request.model) for answer in combined.answers} if request.votes else {},
            seconds=time.perf_counter() - started,
            nodes_used=len({answer.node_id for answer in combined.answers}),
            lost=combined.lost,
            notices=[*scored.notices, *text_counts.notices(counts, len(texts), request.model.max_length)],
            confusion_matrix=scored.confusion,
            **scored.figures,
        )

    def _input(self, request: PredictTexts) -> shards.TextSamples:
        """Return the texts, and the labels of those that have one."""
        if request.input_data is None:
            texts = list(request.inputs or [])
            return shards.TextSamples(texts, [None] * len(texts), 0)
        if request.input_sha256 is not None:
            input_file.require(self._root, request.input_data, request.input_sha256)
        samples = shards.read(self._root, request.input_data, request.input_format, labelled=False)
        if request.input_sha256 is not None:
            # Another file may have taken its place while it was read.
            input_file.require(self._root, request.input_data, request.input_sha256)
        return samples

    async def _split(self, request: PredictTexts, texts: list[str]) -> "_CombinedAnswer":
        """Give each worker a part of the texts. The part of a lost worker goes to the others."""
        sums = await asyncio.to_thread(self._calibrator.calibration_sums, request)
        combined = _CombinedAnswer(torch.empty(len(texts), len(request.model.labels)))
        remaining, peers = list(range(len(texts))), list(request.workers)
        while remaining:
            if not peers:
                raise AgentError("nodes_unreachable", "no worker answers", 502)
            now, remaining = remaining[: _PART * len(peers)], remaining[_PART * len(peers) :]
            parts = [(peer, part) for number, peer in enumerate(peers) if (part := now[number :: len(peers)])]
            answers = await asyncio.gather(
                *(self._ask(request, peer, [texts[index] for index in part], sums) for peer, part in parts)
            )
            for (peer, part), answer in zip(parts, answers, strict=True):
                if answer is None:
                    peers.remove(peer)
                    combined.lost.append(peer.node_id)
                    remaining += part
                else:
                    combined.table[part] = torch.tensor(answer.probabilities)
                    combined.answers.append(answer)
            self._note_progress(request, 1 - len(remaining) / len(texts))
        combined.temperature = _temperature(combined.answers, sums, len(request.model.labels))
        return combined

    def _note_progress(self, request: PredictTexts, progress: float) -> None:
        running = self._running.get(request.prediction_id or "")
        if running is not None:
            running.progress = progress

    async def _ask_all(self, request: PredictTexts, texts: list[str]) -> "_CombinedAnswer":
        answers = await asyncio.gather(*(self._ask(request, peer, texts, None) for peer in request.workers))
        present = [answer for answer in answers if answer is not None]
        if not present:
            raise AgentError("nodes_unreachable", "no worker answers", 502)
        lost = [peer.node_id for peer, answer in zip(request.workers, answers, strict=True) if answer is None]
        return _CombinedAnswer(_combine(request, present), present, lost)

    async def _ask(
        self, request: PredictTexts, peer: Peer, texts: Sequence[str], sums: CalibrationSums | None
    ) -> InferenceResult | None:
        question = InferTexts(
            training_id=request.training_id,
            model=request.model,
            digest=request.digest,
            source=self._peers.introduce(request.self_peer, peer),
            texts=list(texts),
            local=request.aggregation != "global",
            dataset=request.dataset,
            data_format=request.data_format,
            weigh=request.aggregation == "weighted",
            calibrate=sums is None,
            engine=request.engine,
            count_unseen=request.count_unseen,
        )
        try:
            answer = await self._peers.ask(peer, "/inferences", question, InferenceResult, within_s=_WITHIN_S)
        except AgentError:
            return None
        # The address decides whose answer it is, because a worker may send a wrong id.
        return answer.model_copy(update={"node_id": peer.node_id}) if _is_valid(answer, len(texts), request.model) else None


@dataclass(slots=True)
class _CombinedAnswer:
    """The probabilities (texts, classes) before calibration, and the workers' answers.

    `lost` are the workers that did not answer.
    """

    table: torch.Tensor
    answers: list[InferenceResult] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    temperature: float | None = None


def _votes(answer: InferenceResult, model: ModelSpec) -> list[NodeVote]:
    """Return the best label of each text after the answer of one worker."""
    confidences, best = torch.tensor(answer.probabilities).max(1)
    return [
        NodeVote(sentiment=model.labels[index], confidence=min(confidence, 1.0))
        for index, confidence in zip(best.tolist(), confidences.tolist(), strict=True)
    ]


def _temperature(answers: Sequence[InferenceResult], sums: CalibrationSums | None, classes: int) -> float | None:
    """Fit the temperature to the aggregator's sums, or else to those of the workers."""
    if sums is not None:
        return calibration.fit([sums], classes)
    # A worker that got a second part sends its sums again, so they are collected by worker.
    sums_by_worker = {answer.node_id: answer.calibration_sums for answer in answers if answer.calibration_sums is not None}
    return calibration.fit(list(sums_by_worker.values()), classes)


def _is_valid(answer: InferenceResult, texts: int, model: ModelSpec) -> bool:
    """Return whether the answer has one row of probabilities for each text, and a valid weight.

    Counts must be possible too.
    """
    rows = answer.probabilities
    has_weight = answer.weight is None or 0 <= answer.weight <= 1
    has_rows = len(rows) == texts and all(
        len(row) == len(model.labels) and all(0 <= probability <= 1 for probability in row) for row in rows
    )
    return has_weight and has_rows and (answer.counts is None or text_counts.are_possible(answer.counts, texts))


def _combine(request: PredictTexts, answers: Sequence[InferenceResult]) -> torch.Tensor:
    tables = [torch.tensor(answer.probabilities) for answer in answers]
    match request.aggregation:
        case "mean":
            return combine.mean(tables)
        case "weighted":
            return combine.weighted(tables, [answer.weight or 0.0 for answer in answers])
        case "majority":
            return combine.majority(tables)
        case _:
            return combine.ensemble(tables)
