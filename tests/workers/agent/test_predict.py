import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from starlette.requests import Request
from starlette.responses import Response

from tests.workers.agent.agents import DATASET, MODEL, TRAINING, Federation, LiveAgent, federation
from tests.workers.agent.impostor import impostor
from tests.workers.agent.texts import samples
from workers.agent import combine
from workers.agent.protocol import Infer, Peer, Predict

TEXTS = [row["text"] for row in samples(12, 5000)]
WAYS = ["global", "ensemble", "majority", "weighted", "mean"]
NOBODY = Peer(node_id="w8", url="http://agent", uds="/nowhere/x.sock")


@pytest.fixture(scope="module")
def trained() -> Iterator[Federation]:
    """Two workers, of which one has models of its own that differ from the global one."""
    with federation(2, count=48) as found:
        found.hyperparameters |= {"local_epochs": 12}
        found.round(1)
        found.round(2)
        yield found


def predict(agents: Federation, status: int = 200, **fields: Any) -> dict[str, Any]:
    request = Predict(
        **{
            "training_id": TRAINING,
            "model": MODEL,
            "digest": agents.base,
            "dataset": DATASET,
            "aggregation": "global",
            "workers": [worker.peer for worker in agents.workers],
            "self_peer": agents.aggregator.peer,
            "inputs": TEXTS,
            **fields,
        }
    )
    answer: dict[str, Any] = agents.aggregator.call("POST", "/predictions", request, status=status)
    return answer


def infer(agents: Federation, worker: LiveAgent, **fields: Any) -> dict[str, Any]:
    shared = {"training_id": TRAINING, "model": MODEL, "digest": agents.base, "source": agents.aggregator.peer, "texts": TEXTS}
    answer: dict[str, Any] = worker.call("POST", "/inferences", Infer(**{**shared, **fields}))
    return answer


def table(answer: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(answer["probabilities"])


def expected(agents: Federation, way: str) -> torch.Tensor:
    """What the aggregator should say, from what each worker says."""
    if way == "global":
        return table(infer(agents, agents.workers[0]))
    answers = [infer(agents, worker, local=True, weigh=DATASET) for worker in agents.workers]
    tables = [table(answer) for answer in answers]
    if way == "weighted":
        return combine.weighted(tables, [answer["weight"] for answer in answers])
    return {"mean": combine.mean, "majority": combine.majority, "ensemble": combine.ensemble}[way](tables)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_combines_what_the_workers_say(trained: Federation, way: str, engine: str) -> None:
    if engine == "onnx":
        # One after the other: torch's exporter is not made for the two agents that share this process.
        for worker in trained.workers:
            infer(trained, worker, local=way != "global", engine="onnx")
    answer = predict(trained, aggregation=way, engine=engine)
    wanted = expected(trained, way)
    assert [one["text"] for one in answer["predictions"]] == TEXTS
    assert [one["sentiment"] for one in answer["predictions"]] == [MODEL.labels[index] for index in wanted.argmax(1).tolist()]
    confidences = [one["confidence"] for one in answer["predictions"]]
    assert confidences == pytest.approx(wanted.max(1).values.tolist(), abs=1e-4)
    assert (answer["nodes_used"], answer["lost"]) == (2, [])
    assert answer["seconds"] > 0
    assert answer["accuracy"] is None


def test_own_models_differ_from_each_other_and_from_the_global_one(trained: Federation) -> None:
    own = [table(infer(trained, worker, local=True)) for worker in trained.workers]
    shared = [table(infer(trained, worker)) for worker in trained.workers]
    assert torch.equal(shared[0], shared[1])
    assert not torch.equal(own[0], own[1])
    assert not torch.equal(own[0], shared[0])


def test_the_graph_of_a_workers_own_model_follows_that_model(trained: Federation) -> None:
    worker = trained.workers[0]
    before = infer(trained, worker, local=True, engine="onnx")
    trained.collect(3)
    trained.train(worker, 3)
    assert trained.trained(worker, 3)["state"] == "done"
    after = infer(trained, worker, local=True, engine="onnx")
    assert after != before
    torch.testing.assert_close(table(after), table(infer(trained, worker, local=True)), atol=1e-4, rtol=0)
    trained.aggregator.call("POST", f"/trainings/{TRAINING}/stop")


def test_a_labelled_file_brings_figures_and_an_unlabelled_one_none(trained: Federation) -> None:
    trained.aggregator.put("/data/test.json", samples(30, 7000))
    answer = predict(trained, inputs=None, input_data="/data/test.json")
    said = [one["sentiment"] for one in answer["predictions"]]
    right = sum(row["sentiment"] == label for row, label in zip(samples(30, 7000), said, strict=True))
    assert answer["accuracy"] == pytest.approx(right / 30)
    assert all(0 <= answer[name] <= 1 for name in ("precision", "recall", "f1_score"))
    trained.aggregator.put("/data/test.json", [*samples(3), {"text": "and one more"}])
    assert predict(trained, inputs=None, input_data="/data/test.json")["accuracy"] is None
    assert predict(trained, 422, inputs=None, input_data="/data/none.json")["code"] == "no_match"


@pytest.mark.parametrize("way", ["global", "mean"])
def test_a_worker_that_is_gone_is_named_and_the_others_answer(trained: Federation, way: str) -> None:
    answer = predict(trained, aggregation=way, workers=[NOBODY, *(worker.peer for worker in trained.workers)])
    assert (answer["lost"], answer["nodes_used"]) == (["w8"], 2)
    labels = [MODEL.labels[index] for index in expected(trained, way).argmax(1).tolist()]
    assert [one["sentiment"] for one in answer["predictions"]] == labels


@pytest.mark.parametrize("way", ["global", "mean"])
def test_nobody_there_is_an_error(trained: Federation, way: str) -> None:
    assert predict(trained, 502, aggregation=way, workers=[NOBODY])["code"] == "nodes_unreachable"
    assert predict(trained, 502, aggregation=way, workers=[])["code"] == "nodes_unreachable"


def test_a_model_that_the_aggregator_does_not_have_is_unknown(trained: Federation) -> None:
    assert predict(trained, 404, digest="0" * 64)["code"] == "unknown_model"


@pytest.mark.parametrize(
    "lie",
    [
        {"probabilities": []},
        {"probabilities": [[0.5, 0.5]] * 12},
        {"probabilities": [[0.2, 0.3, 0.5]] * 11},
        {"probabilities": [[9.0, 0.3, 0.5]] * 12},
        {"probabilities": [[float("nan")] * 3] * 12},
        {"probabilities": "many"},
        {"weight": 1e9},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"more": 1},
    ],
)
def test_an_answer_of_another_form_is_not_counted(trained: Federation, lie: dict[str, object]) -> None:
    async def answer(_: Request) -> Response:
        honest = {"node_id": "w9", "probabilities": [[1.0, 0.0, 0.0]] * 12, "weight": 1.0}
        return Response(json.dumps({**honest, **lie}))

    with impostor(answer) as peer:
        found = predict(trained, aggregation="weighted", workers=[peer, *(worker.peer for worker in trained.workers)])
    assert (found["lost"], found["nodes_used"]) == (["w9"], 2)
