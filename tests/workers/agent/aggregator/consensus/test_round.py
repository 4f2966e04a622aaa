"""Proof-of-learning rounds between real agents."""

from tests.workers.agent.agents import (
    Federation,
    federation,
    global_model,
    problem,
    update,
)
from tests.workers.agent.texts import samples


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


def test_a_patient_free_rider_that_replays_its_own_idle_steps_is_voted_out() -> None:
    """The attacker's chain is valid and its audit passes: it took every step.

    Each step was tiny, so the update is the base with a little noise.
    """
    with federation(3, count=60) as three:
        three.hyperparameters |= {"local_epochs": 8}
        three.collect(consensus="proof-of-learning")
        for worker in three.workers:
            rate = {"learning_rate": 1e-9} if worker is three.workers[2] else {}
            three.train(worker, consensus="proof-of-learning", wanted=rate)
        found = three.aggregated()
        assert found["state"] == "done", found["problem"]
        assert all(audit["passed"] for audit in found["audits"])
        assert list(found["rejected"]) == ["w3"]
        assert "found it to have learned nothing" in found["rejected"]["w3"]
        assert sorted(found["accepted"]) == ["w1", "w2"]
