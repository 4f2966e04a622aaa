"""Distributed prediction: workers give probabilities, the aggregator splits the texts and combines the answers.

`global`: the texts are split over the workers, all with the global model. The others ask every worker about every text, each
with its own last local model (the global one where it has none), whose confidence it calibrates before anything is combined:
votes and means then count what a model knows, not how loudly it says so. The share of votes of `majority` is as it is.
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
    PredictionResult,
    PredictTexts,
    TextPrediction,
)
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import combine
from workers.agent.serving.calibrator import Calibrator
from workers.agent.serving.label_metrics import figures
from workers.agent.storage.model_store import ModelStore

_WITHIN_S = 300.0


class Predictor:
    def __init__(self, exchange: PeerClient, root: SandboxRoot, store: ModelStore, calibrator: Calibrator) -> None:
        self._peers = exchange
        self._root = root
        self._store = store
        self._calibrator = calibrator

    async def predict(self, request: PredictTexts) -> PredictionResult:
        """AgentError: what reading `input_data` raises, or `nodes_unreachable`."""
        started = time.perf_counter()
        self._store.require(request.digest)
        texts, labels = await asyncio.to_thread(self._input, request)
        split = request.aggregation == "global"
        found = await (self._split(request, texts) if split else self._all(request, texts))
        # Before calibration: rounding must not change a label.
        best = found.table.argmax(1)
        sure = calibration.apply_temperature(found.table, found.temperature).gather(1, best[:, None]).squeeze(1).clamp(max=1.0)
        said = [request.model.labels[index] for index in best.tolist()]
        return PredictionResult(
            predictions=[
                TextPrediction(text=text, sentiment=label, confidence=confidence)
                for text, label, confidence in zip(texts, said, sure.tolist(), strict=True)
            ],
            temperature=found.temperature,
            temperatures={} if split else {answer.node_id: answer.temperature for answer in found.answers},
            engines={answer.node_id: answer.engine for answer in found.answers},
            seconds=time.perf_counter() - started,
            nodes_used=len({answer.node_id for answer in found.answers}),
            lost=found.lost,
            **(figures(labels, said) if labels else {}),
        )

    def _input(self, request: PredictTexts) -> tuple[list[str], list[str] | None]:
        """Texts, and their labels when all have one."""
        if request.input_data is None:
            return list(request.inputs or []), None
        found = shards.read(self._root, request.input_data, labelled=False)
        labels = [label for label in found.labels if label is not None]
        return found.texts, labels if len(labels) == len(found) else None

    async def _split(self, request: PredictTexts, texts: list[str]) -> "_CombinedAnswer":
        """Shares of the texts for each worker; a lost worker's share goes to the others."""
        calibration_sums = await asyncio.to_thread(
            self._calibrator.calibration_sums, request.model, request.digest, request.validation
        )
        found = _CombinedAnswer(torch.empty(len(texts), len(request.model.labels)))
        left, peers = list(range(len(texts))), list(request.workers)
        while left:
            if not peers:
                raise AgentError("nodes_unreachable", "no worker answers", 502)
            shares = [(peer, left[number :: len(peers)]) for number, peer in enumerate(peers) if left[number :: len(peers)]]
            answers = await asyncio.gather(
                *(self._ask(request, peer, [texts[index] for index in share], calibration_sums) for peer, share in shares)
            )
            left = []
            for (peer, share), answer in zip(shares, answers, strict=True):
                if answer is None:
                    peers.remove(peer)
                    found.lost.append(peer.node_id)
                    left += share
                else:
                    found.table[share] = torch.tensor(answer.probabilities)
                    found.answers.append(answer)
        # A worker that got a second share tells its curve again.
        told = {answer.node_id: answer.calibration_sums for answer in found.answers if answer.calibration_sums is not None}
        found.temperature = calibration.fit(
            [calibration_sums] if calibration_sums else list(told.values()), len(request.model.labels)
        )
        return found

    async def _all(self, request: PredictTexts, texts: list[str]) -> "_CombinedAnswer":
        answers = await asyncio.gather(*(self._ask(request, peer, texts, None) for peer in request.workers))
        present = [answer for answer in answers if answer is not None]
        if not present:
            raise AgentError("nodes_unreachable", "no worker answers", 502)
        lost = [peer.node_id for peer, answer in zip(request.workers, answers, strict=True) if answer is None]
        return _CombinedAnswer(_combined(request, present), present, lost)

    async def _ask(
        self, request: PredictTexts, peer: Peer, texts: Sequence[str], calibration_sums: CalibrationSums | None
    ) -> InferenceResult | None:
        question = InferTexts(
            training_id=request.training_id,
            model=request.model,
            digest=request.digest,
            source=self._peers.introduce(request.self_peer, peer),
            texts=list(texts),
            local=request.aggregation != "global",
            dataset=request.dataset,
            weigh=request.aggregation == "weighted",
            calibrate=calibration_sums is None,
            engine=request.engine,
        )
        try:
            answer = await self._peers.ask(peer, "/inferences", question, InferenceResult, within_s=_WITHIN_S)
        except AgentError:
            return None
        # Whose answer it is says the way to it, not the answer.
        return answer.model_copy(update={"node_id": peer.node_id}) if _is_table(answer, len(texts), request.model) else None


@dataclass(slots=True)
class _CombinedAnswer:
    """Probabilities (texts, classes) before calibration, and whose they are."""

    table: torch.Tensor
    answers: list[InferenceResult] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    temperature: float | None = None


def _is_table(answer: InferenceResult, texts: int, model: ModelSpec) -> bool:
    """A worker's word is not taken for its answer's form: so many rows of so many shares, and a weight that is one."""
    rows = answer.probabilities
    weighs = answer.weight is None or 0 <= answer.weight <= 1
    table = len(rows) == texts and all(len(row) == len(model.labels) and all(0 <= part <= 1 for part in row) for row in rows)
    return weighs and table


def _combined(request: PredictTexts, answers: Sequence[InferenceResult]) -> torch.Tensor:
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
