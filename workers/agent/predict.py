"""Distributed prediction: workers give probabilities, the aggregator splits the texts and combines the answers.

`global`: the texts are split over the workers, all with the global model. The others ask every worker about every text, each
with its own last local model (the global one where it has none).
"""

import asyncio
import time
from collections.abc import Sequence

import torch

from workers.agent import combine, data, tensors
from workers.agent.copies import Copies
from workers.agent.errors import AgentError
from workers.agent.evaluate import probabilities, score
from workers.agent.exchange import Exchange
from workers.agent.local_training import LOCAL_MODEL
from workers.agent.metrics import figures
from workers.agent.onnx_graph import Graphs
from workers.agent.paths import Root
from workers.agent.protocol import Infer, Inference, ModelSpec, Peer, Predict, Prediction, Predictions
from workers.agent.shelf import Shelf
from workers.agent.store import LOCAL_GRAPH, Store

_WITHIN_S = 300.0


class Predictor:
    def __init__(
        self, node_id: str, exchange: Exchange, root: Root, store: Store, shelf: Shelf, graphs: Graphs, copies: Copies
    ) -> None:
        self._node_id = node_id
        self._exchange = exchange
        self._root = root
        self._store = store
        self._shelf = shelf
        self._graphs = graphs
        self._copies = copies

    async def infer(self, request: Infer) -> Inference:
        """Probabilities for some texts, with the global model or this worker's own."""
        await self._copies.need(request.training_id, request.digest, request.source)
        return await asyncio.to_thread(self._infer, request)

    def _infer(self, request: Infer) -> Inference:
        local = self._store.folder(request.training_id) / LOCAL_MODEL
        path = local if request.local and local.exists() else self._store.need(request.digest)
        with self._shelf.lock:
            network = self._shelf.loaded(request.model, path)
            texts = network.encoded(request.texts)
            if request.engine == "onnx":
                name = request.digest if path is not local else f"{LOCAL_GRAPH}{tensors.file_digest(local)}"
                graph = self._graphs.of(network, name, self._store.folder(request.training_id))
                found = graph.probabilities(texts, len(request.model.labels))
            else:
                found = probabilities(network, texts)
            weight = None
            if request.weigh is not None:
                weight = score(network, self._shelf.shard(request.model, request.weigh).held_out)[1]
        return Inference(node_id=self._node_id, probabilities=found.tolist(), weight=weight)

    async def predict(self, request: Predict) -> Predictions:
        """AgentError: what reading `input_data` raises, or `nodes_unreachable`."""
        started = time.perf_counter()
        self._store.need(request.digest)
        texts, labels = await asyncio.to_thread(self._input, request)
        split = request.aggregation == "global"
        table, used, lost = await (self._split(request, texts) if split else self._all(request, texts))
        best = table.argmax(1).tolist()
        said = [request.model.labels[index] for index in best]
        return Predictions(
            predictions=[
                Prediction(text=text, sentiment=label, confidence=min(1.0, float(table[row, index])))
                for row, (text, label, index) in enumerate(zip(texts, said, best, strict=True))
            ],
            seconds=time.perf_counter() - started,
            nodes_used=used,
            lost=lost,
            **(figures(labels, said) if labels else {}),
        )

    def _input(self, request: Predict) -> tuple[list[str], list[str] | None]:
        """Texts, and their labels when all have one."""
        if request.input_data is None:
            return list(request.inputs or []), None
        found = data.read(self._root, request.input_data, labelled=False)
        labels = [label for label in found.labels if label is not None]
        return found.texts, labels if len(labels) == len(found) else None

    async def _split(self, request: Predict, texts: list[str]) -> tuple[torch.Tensor, int, list[str]]:
        """Shares of the texts for each worker; a lost worker's share goes to the others."""
        table = torch.empty(len(texts), len(request.model.labels))
        left, peers, lost, used = list(range(len(texts))), list(request.workers), list[str](), set[str]()
        while left:
            if not peers:
                raise AgentError("nodes_unreachable", "no worker answers", 502)
            shares = [(peer, left[number :: len(peers)]) for number, peer in enumerate(peers) if left[number :: len(peers)]]
            answers = await asyncio.gather(
                *(self._ask(request, peer, [texts[index] for index in share]) for peer, share in shares)
            )
            left = []
            for (peer, share), answer in zip(shares, answers, strict=True):
                if answer is None:
                    peers.remove(peer)
                    lost.append(peer.node_id)
                    left += share
                else:
                    table[share] = torch.tensor(answer.probabilities)
                    used.add(peer.node_id)
        return table, len(used), lost

    async def _all(self, request: Predict, texts: list[str]) -> tuple[torch.Tensor, int, list[str]]:
        answers = await asyncio.gather(*(self._ask(request, peer, texts) for peer in request.workers))
        present = [answer for answer in answers if answer is not None]
        if not present:
            raise AgentError("nodes_unreachable", "no worker answers", 502)
        lost = [peer.node_id for peer, answer in zip(request.workers, answers, strict=True) if answer is None]
        return _combined(request, present), len(present), lost

    async def _ask(self, request: Predict, peer: Peer, texts: Sequence[str]) -> Inference | None:
        question = Infer(
            training_id=request.training_id,
            model=request.model,
            digest=request.digest,
            source=request.self_peer,
            texts=list(texts),
            local=request.aggregation != "global",
            weigh=request.dataset if request.aggregation == "weighted" else None,
            engine=request.engine,
        )
        try:
            answer = await self._exchange.ask(peer, "/inferences", question, Inference, within_s=_WITHIN_S)
        except AgentError:
            return None
        return answer if _is_table(answer, len(texts), request.model) else None


def _is_table(answer: Inference, texts: int, model: ModelSpec) -> bool:
    """A worker's word is not taken for its answer's form: so many rows of so many shares, and a weight that is one."""
    rows = answer.probabilities
    weighs = answer.weight is None or 0 <= answer.weight <= 1
    table = len(rows) == texts and all(len(row) == len(model.labels) and all(0 <= part <= 1 for part in row) for row in rows)
    return weighs and table


def _combined(request: Predict, answers: Sequence[Inference]) -> torch.Tensor:
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
