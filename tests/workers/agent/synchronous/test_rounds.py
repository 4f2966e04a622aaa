"""Synchronous rounds of real agents give the same model as one process with the same batches."""

import time

import pytest

from tests.workers.agent import agents
from tests.workers.agent.synchronous.pooled import Alone, begin, pool, ran, underway
from workers.agent.protocol.aggregation import AggregateRound

TOLERANCE = 1e-6
PLAIN = {"optimizer": "sgd", "learning_rate": 0.1}


@pytest.mark.parametrize("kind", ["star", "mesh", "ring", "hierarchical"])
def test_two_rounds_are_single_process_training_on_the_pooled_batches(kind: str) -> None:
    with pool(4) as found:
        alone = Alone(found, **PLAIN)
        first = agents.global_model(found)
        for number in (1, 2):
            report = ran(found, number, kind, **PLAIN)
            alone.round(number, 4)
            assert (report["accepted"], report["notices"]) == (["w1", "w2", "w3", "w4"], [])
        state = agents.global_model(found)
        assert alone.distance(state) < TOLERANCE
        assert alone.distance(first) > 50 * TOLERANCE, "which is far from where it began"
        assert sum(one["samples"] for one in report["received"]) == len(alone.data)
        links = {(link["source"], link["target"]) for link in report["links"]}
        ups = {(worker.node_id, "ps") for worker in found.workers}
        assert links & ups == {"star": ups, "hierarchical": {("w1", "ps"), ("w2", "ps")}}.get(kind, {("w1", "ps")})
        if kind == "ring":
            assert {("w1", "w2"), ("w2", "w3"), ("w3", "w4"), ("w4", "w1")} <= links
        if kind == "mesh":
            assert len({link for link in links if "ps" not in link}) == 12
        assert all(report["digest"] in worker.models() for worker in found.workers), "each worker has its copy"


def test_an_optimizer_goes_on_from_round_to_round_as_it_does_in_one_process() -> None:
    with pool(2) as found:
        alone = Alone(found)
        for number in (1, 2):
            ran(found, number, "star")
            alone.round(number, 2)
        # The gradient of some weights (a key's bias) is rounding noise. Adam still moves them by
        # its learning rate. They do not change the predictions.
        assert alone.disagreement(agents.global_model(found)) < 1e-4


def test_no_worker_keeps_a_sample_on_its_disk() -> None:
    with pool(2, 30) as found:
        ran(found, 1, "star")
        for worker in found.workers:
            names = {path.suffix for path in worker.root.glob("model/**/*") if path.is_file()}
            assert names == {".safetensors"}
            assert not list(worker.root.glob("data/*"))


def test_a_stop_ends_the_round_within_a_step_and_frees_the_workers() -> None:
    with pool(2, 40) as found:
        begin(found, 1, "star", local_epochs=100_000)
        while not underway(found.workers[0]):
            time.sleep(0.05)
        assert found.aggregator.call("POST", f"/trainings/{agents.TRAINING}/stop")["stopped"], "which tells the workers"
        for agent, role in ((found.aggregator, "aggregator"), (found.workers[0], "worker")):
            assert agents.report(agent, 1, role)["state"] == "stopped"
        assert ran(found, 2, "mesh")["notices"] != [], "the next round begins with another optimizer, and says so"


@pytest.mark.parametrize("kind", ["star", "ring"])
def test_a_worker_that_dies_in_mid_round_is_left_out_and_the_round_begins_again_without_it(kind: str) -> None:
    with pool(3, 40) as found, agents.live_agent("w9") as dying:
        config = found.workers[0].root / "models/tiny/config.json"
        (dying.root / "models/tiny/config.json").write_text(config.read_text())
        found.workers.insert(1, dying)
        alone = Alone(found, local_epochs=15, **PLAIN)
        begin(found, 1, kind, local_epochs=15, **PLAIN)
        while not underway(dying):
            time.sleep(0.02)
        dying.die()
        report = found.aggregated(1)
        assert report["state"] == "done", report["problem"]
        assert report["accepted"] == ["w1", "w2", "w3"]
        assert list(report["rejected"]) == ["w9"]
        assert report["notices"][-1].endswith("the round was begun again from its base without w9")
        found.base = report["digest"]
        alone.round(1, 3)
        assert alone.distance(agents.global_model(found)) < 5 * TOLERANCE


def test_too_few_workers_fail_the_round_and_say_so() -> None:
    with pool(2, 30) as found:
        nobody = found.workers[1].peer.model_copy(update={"uds": "/nowhere.sock"})
        begin(found, 1, "star")
        request = AggregateRound(
            training_id=agents.TRAINING,
            round=2,
            model=agents.MODEL.model_copy(update={"max_length": 31}),
            base_digest=found.base,
            workers=[found.workers[0].peer, nobody],
            self_peer=found.aggregator.peer,
            dataset=agents.DATASET,
            quorum=2,
            deadline_s=60,
            synchronous={"batch_size": 8, "learning_rate": 0.01, "optimizer": "adam"},
            introductions={name: [found.workers[0].peer, nobody] for name in ("w1", "w2")},
        )
        found.aggregated(1)
        found.aggregator.call("POST", "/rounds/aggregate", request)
        report = found.aggregated(2)
        assert (report["state"], agents.problem(report)) == ("failed", "quorum_not_met")


def test_a_rate_that_makes_the_loss_no_number_fails_the_round_and_says_so() -> None:
    with pool(2, 30) as found:
        begin(found, 1, "ring", learning_rate=1e30, optimizer="sgd")
        report = found.aggregated(1)
        assert (report["state"], agents.problem(report)) == ("failed", "diverged")
