"""Rounds with differential privacy between real agents.

The reports count the private steps. A repeated round spends its steps again.
"""

from tests.workers.agent.agents import TRAINING, Federation, problem
from workers.agent.protocol.common import Autonomy
from workers.agent.protocol.training import DpSgdSpec

PLAN = DpSgdSpec(samples=24, sampling_rate=1 / 3, noise_multiplier=1.0, max_grad_norm=1.0, steps=3)


def test_a_private_round_tells_counts_only_and_holds_nothing_back(two: Federation) -> None:
    two.init(private=True)
    two.collect()
    for worker in two.workers:
        two.train(worker, wanted={"privacy": PLAN}, autonomy=Autonomy(enabled=True, level=1.0))
    aggregate_report = two.aggregated()
    assert aggregate_report["state"] == "done", aggregate_report["problem"]
    for report in aggregate_report["received"]:
        assert (report["samples"], report["private_steps"]) == (24, 3)
        assert (report["loss"], report["accuracy"], report["decisions"]) == (None, None, [])


def test_a_round_that_is_trained_again_is_spent_again(two: Federation) -> None:
    worker = two.workers[0]
    unheard = two.aggregator.peer.model_copy(update={"uds": "/nowhere.sock"})
    two.train(worker, wanted={"privacy": PLAN.model_copy(update={"samples": 23})})
    assert problem(two.trained(worker)) == "shard_changed"
    two.train(worker, wanted={"privacy": PLAN}, aggregator=unheard)
    first = two.trained(worker)
    assert (problem(first), first["private_steps"]) == ("push_failed", 3)
    # The update still exists. Sending it again reveals nothing new.
    two.collect(workers=[worker.peer])
    two.train(worker, wanted={"privacy": PLAN})
    assert two.trained(worker)["private_steps"] == 3
    worker.call("POST", f"/trainings/{TRAINING}/stop")
    two.train(worker, number=2, wanted={"privacy": PLAN}, base_digest=two.base)
    two.train(worker, number=1, wanted={"privacy": PLAN}, base_digest=two.base)
    assert two.trained(worker, 1)["private_steps"] == 6
