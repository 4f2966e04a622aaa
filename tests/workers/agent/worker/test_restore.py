"""A training's first model, its last one, and the validation file, between real agents."""

import pytest

from tests.workers.agent.agents import (
    MODEL,
    TRAINING,
    Federation,
    evaluate,
    live_agent,
    problem,
)
from tests.workers.agent.texts import samples
from workers.agent.protocol.common import Peer
from workers.agent.protocol.training import InitTraining


def test_a_new_aggregator_takes_the_last_model_from_a_worker(two: Federation) -> None:
    digest = two.round()["digest"]
    worker = two.workers[0]
    evaluation = worker.call("POST", "/evaluations", evaluate(two, digest))
    assert (evaluation["digest"], evaluation["samples"]) == (digest, 2)
    nowhere = Peer(node_id="gone", url="http://agent", uds=f"{worker.root}/nothing.sock")
    with live_agent("ps2", "aggregator") as second:
        ready = second.call(
            "POST",
            "/trainings",
            InitTraining(
                training_id=TRAINING, model=MODEL, base_digest=digest, sources=[nowhere, two.workers[1].peer, worker.peer]
            ),
        )
        assert (ready["digest"], ready["problem"]) == (digest, None)
        assert second.models() == [digest]
        assert sorted(Federation(second, two.workers, digest).round(2)["accepted"]) == ["w1", "w2"]


def test_a_model_that_nobody_has_cannot_be_restored(two: Federation) -> None:
    request = InitTraining(training_id=TRAINING, model=MODEL, base_digest="0" * 64, sources=[two.workers[0].peer])
    assert two.aggregator.call("POST", "/trainings", request, status=404)["code"] == "unknown_model"


def test_a_restart_continues_where_the_store_stands(two: Federation) -> None:
    digest = two.round()["digest"]
    assert two.init(base_digest=digest)["digest"] == digest


def test_the_aggregator_measures_the_new_model_on_its_validation_file(two: Federation) -> None:
    two.aggregator.put("/data/validation.json", samples(30, 9000))
    assert two.init(validation="/data/validation*.json")["validation_samples"] == 30
    found = two.round()["validation"]
    assert (found["node_id"], found["samples"], found["digest"]) == ("ps", 30, two.base)
    assert 0 <= found["accuracy"] <= 1
    two.workers[0].put("/data/same.json", samples(30, 9000))
    other = two.workers[0].call("POST", "/evaluations", evaluate(two, two.base, dataset="/data/same.json", held_out=False))
    assert (other["accuracy"], other["loss"]) == (found["accuracy"], pytest.approx(found["loss"], abs=1e-6))


def test_a_validation_file_is_optional_but_not_a_broken_one(two: Federation) -> None:
    assert two.init(validation="/data/none.json")["validation_samples"] is None
    two.aggregator.put("/data/validation.json", [{"text": "x"}])
    assert problem(two.init(validation="/data/validation.json")) == "unlabelled"
