"""Rounds between real agents, in which one worker or the connection to it fails."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.workers.agent.agents import (
    TRAINING,
    Federation,
    drop,
    federation,
    global_model,
    plus,
    problem,
    update,
)
from tests.workers.agent.texts import samples


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
    two.collect(deadline_s=2.5)
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    found = two.aggregated()
    assert 2.4 < time.monotonic() - started < 20
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


def test_a_round_that_was_stopped_while_it_was_being_closed_stays_stopped(two: Federation) -> None:
    two.aggregator.put("/data/validation.json", samples(4000, 9000))
    two.init(validation="/data/validation.json")
    two.collect()
    body = update(two, "w1", plus(two, 0.1))
    drop(two, "w2")
    with ThreadPoolExecutor() as beside:
        sending = beside.submit(two.push, "w1", body)
        end = time.monotonic() + 30
        while len(two.aggregator.models()) < 2:
            assert time.monotonic() < end
            time.sleep(0.002)
        assert two.aggregator.call("POST", f"/trainings/{TRAINING}/stop") == {"stopped": True}
        sending.result(60)
    assert two.aggregated()["state"] == "stopped"


def test_an_aggregator_that_cannot_write_fails_the_round_instead_of_leaving_it_open(two: Federation) -> None:
    two.collect()
    assert two.push("w1", update(two, "w1", plus(two, 0.1)))["accepted"]
    folder = two.aggregator.root / "model" / TRAINING
    folder.rename(folder.with_name("aside"))
    folder.write_bytes(b"in the way")
    found = drop(two, "w2")
    assert (found["state"], problem(found)) == ("failed", "agent_failed")
