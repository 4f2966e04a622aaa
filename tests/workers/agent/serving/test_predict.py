import asyncio
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from starlette.requests import Request
from starlette.responses import Response

from tests.workers.agent.agents import DATASET, MODEL, TRAINING, Federation, LiveAgent, federation, global_model
from tests.workers.agent.impostor import impostor
from tests.workers.agent.texts import samples
from workers.agent.modeling import calibration
from workers.agent.protocol.common import Peer
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.inference import CalibrationSums, InferTexts, PredictTexts
from workers.agent.serving import combine
from workers.agent.serving import predict as predict_module
from workers.agent.serving.predict import Predictor
from workers.agent.storage.model_store import ModelStore

TEXTS = [row["text"] for row in samples(12, 5000)]
WAYS = ["global", "ensemble", "majority", "weighted", "mean"]
MEASURED = {"dataset": DATASET, "weigh": True, "calibrate": True}
NOBODY = Peer(node_id="w8", url="http://agent", uds="/nowhere/x.sock")


@pytest.fixture(scope="module")
def trained() -> Iterator[Federation]:
    """Two workers whose own models differ from the global model."""
    with federation(2, count=48) as agents:
        agents.hyperparameters |= {"local_epochs": 12}
        agents.round(1)
        agents.round(2)
        yield agents


def predict(agents: Federation, status: int = 200, **fields: Any) -> dict[str, Any]:
    request = PredictTexts(
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
    answer: dict[str, Any] = worker.call("POST", "/inferences", InferTexts(**{**shared, **fields}))
    return answer


def table(answer: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(answer["probabilities"])


def expected(agents: Federation, way: str, engine: str = "torch") -> torch.Tensor:
    """Combine the answers of the workers as the aggregator should."""
    answers = [infer(agents, worker, local=way != "global", engine=engine, **MEASURED) for worker in agents.workers]
    if way == "global":
        sums = [CalibrationSums(**answer["calibration_sums"]) for answer in answers]
        return calibration.apply_temperature(table(answers[0]), calibration.fit(sums, 3))
    tables = [table(answer) for answer in answers]
    if way == "weighted":
        return combine.weighted(tables, [answer["weight"] for answer in answers])
    return {"mean": combine.mean, "majority": combine.majority, "ensemble": combine.ensemble}[way](tables)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_combines_what_the_workers_say(trained: Federation, way: str, engine: str) -> None:
    answer = predict(trained, aggregation=way, engine=engine)
    wanted = expected(trained, way, engine)
    assert [prediction["text"] for prediction in answer["predictions"]] == TEXTS
    assert [prediction["sentiment"] for prediction in answer["predictions"]] == [
        MODEL.labels[index] for index in wanted.argmax(1).tolist()
    ]
    confidences = [prediction["confidence"] for prediction in answer["predictions"]]
    # The range of 8-bit activations depends on the batch, and a part of the texts has other
    # batches.
    assert confidences == pytest.approx(wanted.max(1).values.tolist(), abs=1e-4 if engine == "torch" else 5e-3)
    assert set(answer["engines"].values()) == {"torch" if engine == "torch" else "onnx-int8"}
    assert (answer["nodes_used"], answer["lost"]) == (2, [])
    assert answer["seconds"] > 0
    assert answer["accuracy"] is None


def test_votes_are_the_answers_of_each_worker(trained: Federation) -> None:
    texts = TEXTS[:5]
    answer = predict(trained, aggregation="mean", inputs=texts, votes=True)
    for worker in trained.workers:
        own = table(infer(trained, worker, local=True, calibrate=True, dataset=DATASET, texts=texts))
        votes = answer["votes"][worker.node_id]
        assert [vote["sentiment"] for vote in votes] == [MODEL.labels[index] for index in own.argmax(1).tolist()]
        assert [vote["confidence"] for vote in votes] == pytest.approx(own.max(1).values.tolist(), abs=1e-4)
    assert answer["votes"].keys() == {worker.node_id for worker in trained.workers}
    assert predict(trained, aggregation="mean", inputs=texts)["votes"] == {}


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
    said = [prediction["sentiment"] for prediction in answer["predictions"]]
    right = sum(row["sentiment"] == label for row, label in zip(samples(30, 7000), said, strict=True))
    assert answer["accuracy"] == pytest.approx(right / 30)
    assert all(0 <= answer[name] <= 1 for name in ("precision", "recall", "f1_score"))
    assert answer["notices"] == []
    matrix = answer["confusion_matrix"]
    pairs = Counter((row["sentiment"], label) for row, label in zip(samples(30, 7000), said, strict=True))
    assert matrix["counts"] == [[pairs[true, label] for label in matrix["labels"]] for true in matrix["labels"]]
    assert sum(map(sum, matrix["counts"])) == 30
    trained.aggregator.put("/data/test.json", [{"text": "the lamp is great"}])
    answer = predict(trained, inputs=None, input_data="/data/test.json")
    assert answer["accuracy"] is answer["confusion_matrix"] is None
    assert answer["notices"] == ["The file has no labels, so accuracy, precision, recall and f1_score are null."]
    assert predict(trained, 422, inputs=None, input_data="/data/none.json")["code"] == "no_match"


def test_the_labels_that_can_be_scored_are_scored(trained: Federation) -> None:
    rows = samples(30, 7000)
    trained.aggregator.put("/data/test.json", rows)
    all_scored = predict(trained, inputs=None, input_data="/data/test.json")
    changed: list[dict[str, object]] = [dict(row) for row in rows]
    changed[0]["sentiment"] = rows[0]["sentiment"].upper()
    del changed[1]["sentiment"]
    changed[2]["sentiment"] = ["a list"]
    changed[3]["sentiment"] = "secretword"
    trained.aggregator.put("/data/test.json", changed)
    answer = predict(trained, inputs=None, input_data="/data/test.json")
    said = [prediction["sentiment"] for prediction in all_scored["predictions"]]
    right = [row["sentiment"] == label for row, label in zip(rows, said, strict=True)]
    assert answer["accuracy"] == pytest.approx((right[0] + sum(right[4:])) / 27)
    assert answer["notices"] == [
        "1 of 30 samples have a label that is no word, integer or boolean.",
        "1 of 30 samples have no label.",
        "1 of 30 labels are spelled unlike the training's; they count as its class of that name.",
        "1 of 30 labels are no class of the training. label_names of a training maps labels.",
        "The figures are over the other 27 samples.",
    ]


def test_an_input_file_has_its_own_fields(trained: Federation) -> None:
    rows = [{"review": row["text"], "stars": row["sentiment"], "label": "other"} for row in samples(6, 7000)]
    trained.aggregator.put("/data/test.json", rows)
    named = DataFormat(text_field="review", label_field="stars")
    answer = predict(trained, inputs=None, input_data="/data/test.json", input_format=named)
    assert [prediction["text"] for prediction in answer["predictions"]] == [row["review"] for row in rows]
    assert answer["accuracy"] is not None


@pytest.mark.parametrize("way", ["global", "mean"])
def test_a_worker_that_is_gone_is_named_and_the_others_answer(trained: Federation, way: str) -> None:
    answer = predict(trained, aggregation=way, workers=[NOBODY, *(worker.peer for worker in trained.workers)])
    assert (answer["lost"], answer["nodes_used"]) == (["w8"], 2)
    labels = [MODEL.labels[index] for index in expected(trained, way).argmax(1).tolist()]
    assert [prediction["sentiment"] for prediction in answer["predictions"]] == labels


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
        {"counts": {"cut": 13, "tokens": 9}},
        {"counts": {"cut": 1, "tokens": 9, "unknown": 10}},
        {"counts": {"cut": 1, "tokens": 9, "unseen": 9.5, "least_unseen": 1.0}},
        {"counts": {"cut": -1, "tokens": 9}},
    ],
)
def test_an_answer_of_another_form_is_not_counted(trained: Federation, lie: dict[str, object]) -> None:
    async def answer(_: Request) -> Response:
        honest = {"node_id": "w9", "probabilities": [[1.0, 0.0, 0.0]] * 12, "weight": 1.0}
        return Response(json.dumps({**honest, **lie}))

    with impostor(answer) as peer:
        result = predict(trained, aggregation="weighted", workers=[peer, *(worker.peer for worker in trained.workers)])
    assert (result["lost"], result["nodes_used"]) == (["w9"], 2)


def overconfident(agents: Federation, loudness: float = 3.0) -> str:
    """Store a model with little accuracy and high confidence; return its digest.

    It is the global model with a random head.
    """
    state, random = global_model(agents), torch.Generator().manual_seed(1)
    head = state["classifier.weight"]
    state["classifier.weight"] = loudness * torch.randn(head.shape, generator=random)
    return ModelStore(agents.aggregator.root / "model").save(TRAINING, state).digest


def cross_entropy(answer: dict[str, Any], rows: list[dict[str, str]]) -> float:
    """Return the mean cross-entropy in nats.

    The confidence that is left is divided evenly between the other two classes.
    """
    pairs = zip(answer["predictions"], rows, strict=True)
    probabilities = [
        prediction["confidence"] if prediction["sentiment"] == row["sentiment"] else (1 - prediction["confidence"]) / 2
        for prediction, row in pairs
    ]
    return -sum(math.log(max(probability, 1e-12)) for probability in probabilities) / len(rows)


def test_a_boasting_model_is_calibrated_on_the_workers_held_out_samples(trained: Federation) -> None:
    digest, rows = overconfident(trained), samples(60, 9000)
    texts = [row["text"] for row in rows]
    raw = predict(trained, digest=digest, inputs=texts, dataset="/data/none.json")
    assert raw["temperature"] is None
    calibrated = predict(trained, digest=digest, inputs=texts)
    sums = [
        CalibrationSums(**infer(trained, worker, digest=digest, **MEASURED)["calibration_sums"]) for worker in trained.workers
    ]
    assert calibrated["temperature"] == pytest.approx(calibration.fit(sums, 3))
    assert calibrated["temperature"] > 1.5
    assert [prediction["sentiment"] for prediction in calibrated["predictions"]] == [
        prediction["sentiment"] for prediction in raw["predictions"]
    ]
    assert all(0 < prediction["confidence"] <= 1 for prediction in calibrated["predictions"])
    assert cross_entropy(calibrated, rows) < cross_entropy(raw, rows)


def test_the_aggregators_validation_file_is_what_a_global_model_is_calibrated_on(trained: Federation) -> None:
    said = predict(trained)
    # All labels of this file are wrong for the model. Those of the workers' samples are not.
    turned = dict(zip(MODEL.labels, [*MODEL.labels[1:], MODEL.labels[0]], strict=True))
    rows = [{"text": prediction["text"], "sentiment": turned[prediction["sentiment"]]} for prediction in said["predictions"]]
    trained.aggregator.put("/data/validation.json", rows)
    digest = trained.base
    result = predict(trained, validation="/data/validation.json")
    assert result["temperature"] > 5 > said["temperature"]
    # The temperature is fitted once for a model. The file is not read again.
    trained.aggregator.put("/data/validation.json", [])
    assert predict(trained, digest=digest, validation="/data/validation.json")["temperature"] == result["temperature"]


def test_each_own_model_has_its_own_temperature(trained: Federation) -> None:
    answer = predict(trained, aggregation="mean")
    own = {worker.node_id: infer(trained, worker, local=True, **MEASURED) for worker in trained.workers}
    assert answer["temperatures"] == {
        name: pytest.approx(answer_of_worker["temperature"]) for name, answer_of_worker in own.items()
    }
    assert answer["temperature"] is None
    raw = infer(trained, trained.workers[0], local=True)
    assert raw["temperature"] is None
    torch.testing.assert_close(
        table(own["w1"]), calibration.apply_temperature(table(raw), own["w1"]["temperature"]).float(), atol=1e-5, rtol=0
    )


# Three workers' probabilities for two texts, and their held-out accuracies.
ANSWERS = [
    ([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], 0.5),
    ([[0.1, 0.8, 0.1], [0.1, 0.5, 0.4]], 0.25),
    ([[0.6, 0.2, 0.2], [0.0, 0.1, 0.9]], 1.0),
]


@pytest.mark.parametrize(
    ("way", "labels", "confidences"),
    [
        # Votes weigh 0.6 + 0.6 against 0.8, and 0.7 + 0.5 against 0.9.
        ("ensemble", ["negative", "neutral"], [1.2 / 2.0, 1.2 / 2.1]),
        ("majority", ["negative", "neutral"], [2 / 3, 2 / 3]),
        # The weights are 2/7, 1/7 and 4/7 of the sum of the accuracies.
        ("weighted", ["negative", "positive"], [(1.2 + 0.1 + 2.4) / 7, (0.2 + 0.4 + 3.6) / 7]),
        ("mean", ["negative", "positive"], [1.3 / 3, 1.4 / 3]),
    ],
)
def test_each_way_by_hand(trained: Federation, way: str, labels: list[str], confidences: list[float]) -> None:
    def telling(answer_of_worker: tuple[list[list[float]], float]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_: Request) -> Response:
            return Response(json.dumps({"node_id": "x", "probabilities": answer_of_worker[0], "weight": answer_of_worker[1]}))

        return answer

    with ExitStack() as running:
        peers = [running.enter_context(impostor(telling(answer_of_worker))) for answer_of_worker in ANSWERS]
        named = [peer.model_copy(update={"node_id": f"i{number}"}) for number, peer in enumerate(peers)]
        result = predict(trained, aggregation=way, workers=named, inputs=TEXTS[:2])
    assert [prediction["sentiment"] for prediction in result["predictions"]] == labels
    assert [prediction["confidence"] for prediction in result["predictions"]] == pytest.approx(confidences, abs=1e-5)
    assert result["nodes_used"] == 3


def test_work_on_a_prediction_can_be_followed_and_cancelled(trained: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker never answers the second part, so the prediction is half done until it is
    cancelled.
    """
    monkeypatch.setattr(predict_module, "_PART", 1)
    answered = threading.Event()
    ask = Predictor._ask

    async def once(self: Predictor, *args: Any) -> Any:
        if answered.is_set():
            await asyncio.sleep(60)
        answered.set()
        return await ask(self, *args)

    monkeypatch.setattr(Predictor, "_ask", once)
    agent, path = trained.aggregator, "/predictions/pred_1"
    with ThreadPoolExecutor(1) as other:
        request = {"prediction_id": "pred_1", "inputs": TEXTS[:2], "workers": [trained.workers[0].peer]}
        refused = other.submit(predict, trained, 409, **request)
        end = time.monotonic() + 20
        while agent.call("GET", path)["progress"] != 0.5:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert agent.call("POST", f"{path}/cancel")["stopped"] is True
        assert refused.result()["code"] == "cancelled"
    assert agent.call("GET", path)["progress"] is None
    assert agent.call("POST", f"{path}/cancel")["stopped"] is False
