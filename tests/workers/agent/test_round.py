"""Rounds between real agents: what one worker or the way to it does, the others and the aggregator must bear."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.workers.agent.agents import (
    DATASET,
    MODEL,
    TRAINING,
    Federation,
    federation,
    global_model,
    live_agent,
    report,
    update,
)
from tests.workers.agent.texts import samples
from workers.agent.protocol import Autonomy, Drop, Evaluate, Peer, TrainingInit


@pytest.fixture
def two() -> Iterator[Federation]:
    with federation(2) as found:
        yield found


def drop(agents: Federation, *node_ids: str, number: int = 1) -> dict[str, object]:
    answer: dict[str, object] = agents.aggregator.call(
        "POST", f"/trainings/{TRAINING}/rounds/{number}/drop", Drop(node_ids=list(node_ids))
    )
    return answer


def problem(report: dict[str, object]) -> str:
    found = report["problem"]
    assert isinstance(found, dict), report
    return str(found["code"])


def plus(agents: Federation, amount: float) -> dict[str, torch.Tensor]:
    return {name: tensor + amount for name, tensor in global_model(agents).items()}


def test_rounds_follow_each_other_and_learn(two: Federation) -> None:
    bases = [two.base]
    losses = []
    two.hyperparameters["local_epochs"] = 5
    for number in range(1, 5):
        found = two.round(number)
        bases.append(two.base)
        assert sorted(found["accepted"]) == ["w1", "w2"]
        assert found["rejected"] == {}
        assert found["bytes_received"] == sum(report["bytes_sent"] for report in found["received"])
        assert found["aggregate_seconds"] > 0
        losses.append(sum(report["loss"] for report in found["received"]) / 2)
    assert len(set(bases)) == 5
    assert losses[-1] < 0.8 * losses[0]
    assert two.aggregator.models() == sorted(bases[-2:]), "the last model and its base are kept, older ones go"
    for worker in two.workers:
        own = two.trained(worker, 4)
        assert (own["state"], own["samples"], own["progress"], own["problem"]) == ("done", 22, 1.0, None)
        assert own["pull_seconds"] > 0
        assert own["push_seconds"] > 0
        assert own["bytes_sent"] > 10_000


def test_the_same_round_gives_the_same_model_again(two: Federation) -> None:
    first = two.round()["digest"]
    with federation(2) as again:
        assert again.round()["digest"] == first


def test_the_new_model_is_the_mean_weighted_by_samples(two: Federation) -> None:
    base = global_model(two)
    two.collect()
    assert two.push("w1", update(two, "w1", plus(two, 0.1), samples=30))["accepted"]
    assert two.push("w2", update(two, "w2", plus(two, 0.4), samples=10))["accepted"]
    found = global_model(two, two.aggregated()["digest"])
    for name, tensor in base.items():
        torch.testing.assert_close(found[name], tensor + 0.175, atol=1e-5, rtol=0)


def test_a_worker_that_is_dropped_is_waited_for_no_longer(two: Federation) -> None:
    two.collect()
    two.train(two.workers[0])
    assert two.trained(two.workers[0])["state"] == "done"
    assert drop(two, "w2", "nobody")["state"] == "done"
    found = two.aggregated()
    assert found["accepted"] == ["w1"]
    assert drop(two, "w1") == found, "a round that has ended stays as it is"


def test_a_deadline_ends_a_round_with_those_who_were_in_time(two: Federation) -> None:
    started = time.monotonic()
    two.collect(deadline_s=1.5)
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    found = two.aggregated()
    assert 1.4 < time.monotonic() - started < 20
    assert (found["state"], found["accepted"]) == ("done", ["w1"])
    late = two.push("w2", update(two, "w2", plus(two, 0.2)))
    assert (late["accepted"], problem(late)) == (False, "not_expected")
    assert two.aggregated() == found


def test_a_round_below_its_quorum_fails_and_can_be_begun_again(two: Federation) -> None:
    two.collect(quorum=2)
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    drop(two, "w2")
    found = two.aggregated()
    assert (found["state"], problem(found)) == ("failed", "quorum_not_met")
    assert found["digest"] is None
    assert two.collect(quorum=2)["state"] == "collecting"
    for node_id in ("w1", "w2"):
        assert two.push(node_id, update(two, node_id, plus(two, 0.1)))["accepted"]
    assert sorted(two.aggregated()["accepted"]) == ["w1", "w2"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_spoilt_update_is_refused_by_name_and_the_rest_is_averaged(two: Federation, value: float) -> None:
    two.collect()
    spoilt = plus(two, 0.1)
    next(iter(spoilt.values())).view(-1)[0] = value
    receipt = two.push("w1", update(two, "w1", spoilt))
    assert (receipt["accepted"], problem(receipt)) == (False, "not_finite")
    assert two.push("w2", update(two, "w2", plus(two, 0.2)))["accepted"]
    found = two.aggregated()
    assert (found["state"], found["accepted"]) == ("done", ["w2"])
    assert found["rejected"] == {"w1": "the update holds NaN or infinity"}
    for name, tensor in global_model(two, found["digest"]).items():
        torch.testing.assert_close(tensor, plus(two, 0.2)[name])


def test_a_second_update_of_the_same_worker_does_not_count(two: Federation) -> None:
    two.collect()
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    again = two.push("w1", update(two, "w1", plus(two, 0.3), samples=1000))
    assert (again["accepted"], problem(again)) == (False, "not_expected")
    assert two.push("w2", update(two, "w2", plus(two, 0.1)))["accepted"]
    found = two.aggregated()
    assert [report["node_id"] for report in found["received"]] == ["w1", "w2"]
    for name, tensor in global_model(two, found["digest"]).items():
        torch.testing.assert_close(tensor, plus(two, 0.1)[name])


def test_an_update_that_nobody_waits_for_is_not_even_read(two: Federation) -> None:
    body = update(two, "w1", plus(two, 0.1))
    assert problem(two.push("w1", body)) == "not_expected"
    two.collect()
    assert problem(two.push("stranger", body)) == "not_expected"
    assert problem(two.push("w1", body, number=2)) == "not_expected"


def test_posting_a_round_twice_gives_the_first_report(two: Federation) -> None:
    two.collect()
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    again = two.collect()
    assert [report["node_id"] for report in again["received"]] == ["w1"]
    two.train(two.workers[1])
    done = two.trained(two.workers[1])
    assert two.train(two.workers[1]) == done
    assert two.collect() == two.aggregated()


def test_a_round_that_is_stopped_ends_on_both_sides_and_can_be_begun_again(two: Federation) -> None:
    two.collect()
    worker = two.workers[0]
    two.train(worker, wanted={"local_epochs": 10_000})
    for agent in (worker, two.aggregator):
        assert agent.call("POST", f"/trainings/{TRAINING}/stop") == {"stopped": True}
    assert two.trained(worker)["state"] == "stopped"
    assert two.aggregated()["state"] == "stopped"
    for agent in (worker, two.aggregator, two.workers[1]):
        assert agent.call("POST", f"/trainings/{TRAINING}/stop") == {"stopped": False}
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"] is False
    assert sorted(two.round()["accepted"]) == ["w1", "w2"]


def test_a_worker_without_data_fails_its_round_and_says_why(two: Federation) -> None:
    two.collect()
    two.train(two.workers[0], dataset="/data/nothing_*.json")
    found = two.trained(two.workers[0])
    assert (found["state"], problem(found)) == ("failed", "no_match")


def absent(agents: Federation) -> Peer:
    """The aggregator by a way that does not exist yet."""
    return Peer(node_id="ps", url="http://agent", uds=f"{agents.aggregator.root}/later.sock")


def test_below_autonomy_0_3_a_failed_transfer_fails_the_round(two: Federation) -> None:
    two.train(two.workers[0], aggregator=absent(two), autonomy=Autonomy(enabled=True, level=0.29))
    found = two.trained(two.workers[0])
    assert (found["state"], problem(found), found["decisions"]) == ("failed", "pull_failed", [])


def test_from_autonomy_0_3_a_failed_transfer_is_tried_again_and_the_report_says_so(two: Federation) -> None:
    two.collect()
    way = absent(two)
    two.train(two.workers[0], aggregator=way, autonomy=Autonomy(enabled=True, level=0.3))
    end = time.monotonic() + 20
    while not (decisions := report(two.workers[0], 1, "worker", wait_s=0)["decisions"]):
        assert time.monotonic() < end
    Path(str(way.uds)).symlink_to(str(two.aggregator.peer.uds))
    found = two.trained(two.workers[0])
    assert (found["state"], found["problem"]) == ("done", None)
    assert found["decisions"][: len(decisions)] == decisions
    for decision in found["decisions"]:
        assert decision["action"] == "retry_transfer"
        assert decision["reason"].startswith("ps cannot be reached (ConnectError); trying again in ")
    drop(two, "w2")
    assert two.aggregated()["received"][0]["decisions"] == found["decisions"], "the update's own report says so too"


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
            TrainingInit(
                training_id=TRAINING, model=MODEL, base_digest=digest, sources=[nowhere, two.workers[1].peer, worker.peer]
            ),
        )
        assert (ready["digest"], ready["problem"]) == (digest, None)
        assert second.models() == [digest]
        assert sorted(Federation(second, two.workers, digest).round(2)["accepted"]) == ["w1", "w2"]


def test_a_model_that_nobody_has_cannot_be_restored(two: Federation) -> None:
    request = TrainingInit(training_id=TRAINING, model=MODEL, base_digest="0" * 64, sources=[two.workers[0].peer])
    assert two.aggregator.call("POST", "/trainings", request, status=404)["code"] == "unknown_model"


def test_a_restart_continues_where_the_store_stands(two: Federation) -> None:
    digest = two.round()["digest"]
    assert two.init(base_digest=digest)["digest"] == digest


def evaluate(agents: Federation, digest: str, **fields: object) -> Evaluate:
    return Evaluate(
        **{
            "training_id": TRAINING,
            "model": MODEL,
            "digest": digest,
            "source": agents.aggregator.peer,
            "dataset": DATASET,
            **fields,
        }
    )


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


def test_an_update_without_evidence_is_refused_and_the_committee_votes_on_the_others(two: Federation) -> None:
    two.collect(consensus="proof-of-learning")
    two.train(two.workers[0], consensus="proof-of-learning")
    assert problem(two.push("w2", update(two, "w2", global_model(two)))) == "no_evidence"
    found = two.aggregated()
    assert (found["state"], found["accepted"], found["votes"]) == ("done", ["w1"], [])
    assert found["rejected"] == {"w2": "the update comes without evidence of learning"}
    assert found["consensus_seconds"] is not None
    assert len(found["received"][0]["commitment"]["segments"]) == 3, "one for each batch"


def test_a_worker_with_turned_labels_is_voted_out_by_the_others() -> None:
    with federation(3, count=60) as three:
        three.hyperparameters |= {"local_epochs": 12}
        turn = {"positive": "negative", "negative": "positive", "neutral": "positive"}
        turned = [{**row, "sentiment": turn[row["sentiment"]]} for row in samples(60, 3000)]
        three.workers[2].put("/data/turned.json", turned)
        three.round(1)
        three.collect(2, consensus="proof-of-learning")
        for worker in three.workers:
            files = {"dataset": "/data/turned.json"} if worker is three.workers[2] else {}
            three.train(worker, 2, consensus="proof-of-learning", **files)
        found = three.aggregated(2)
        assert found["state"] == "done", found["problem"]
        assert list(found["rejected"]) == ["w3"]
        assert "committee members" in found["rejected"]["w3"]
        assert sorted(found["accepted"]) == ["w1", "w2"]
        assert not {(vote["voter"], vote["candidate"]) for vote in found["votes"]} & {("w1", "w1"), ("w2", "w2"), ("w3", "w3")}


def test_an_aggregator_that_cannot_write_fails_the_round_instead_of_leaving_it_open(two: Federation) -> None:
    two.collect()
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    folder = two.aggregator.root / "model" / TRAINING
    folder.rename(folder.with_name("aside"))
    folder.write_bytes(b"in the way")
    found = drop(two, "w2")
    assert (found["state"], problem(found)) == ("failed", "agent_failed")
