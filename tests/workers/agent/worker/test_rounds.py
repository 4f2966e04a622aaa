"""A worker's rounds, and its answers to other agents, between real agents."""

import time
from pathlib import Path

import pytest

from tests.workers.agent.agents import (
    TRAINING,
    Federation,
    drop,
    evaluate,
    problem,
    report,
    score,
)
from workers.agent.protocol.common import Autonomy, Peer


def test_a_worker_without_data_fails_its_round_and_says_why(two: Federation) -> None:
    two.collect()
    two.train(two.workers[0], dataset="/data/nothing_*.json")
    found = two.trained(two.workers[0])
    assert (found["state"], problem(found)) == ("failed", "no_match")


def absent(agents: Federation) -> Peer:
    """Return the aggregator, with a socket that does not exist yet."""
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


def test_a_member_of_a_committee_measures_candidates_on_its_own_held_out_samples(two: Federation) -> None:
    base = two.base
    two.hyperparameters["local_epochs"] = 10
    better = two.round()["digest"]
    two.base = base
    worker = two.workers[0]
    found = worker.call("POST", "/scores", score(two, {"w1": better, "w2": base}))
    assert (found["node_id"], found["samples"]) == ("w1", 2)
    assert found["candidates"]["w2"] == found["base"]
    for node_id, digest in (("w1", better), ("w2", base)):
        measured = worker.call("POST", "/evaluations", evaluate(two, digest))["accuracy"]
        assert found["candidates"][node_id] == pytest.approx(measured)
    assert not (worker.root / "model" / TRAINING / "updates").exists(), "candidates go when they have been judged"


def test_a_candidate_that_is_no_digest_makes_no_file_anywhere(two: Federation) -> None:
    worker = two.workers[0]
    before = sorted(worker.root.parent.glob("*"))
    for name in ("../../../../evil/x", "x", "", "/evil/x"):
        assert worker.call("POST", "/scores", score(two, {"w2": name}), status=422)["code"] == "bad_digest"
    assert sorted(worker.root.parent.glob("*")) == before
