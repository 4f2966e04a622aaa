"""A node's own decisions reach the control plane: each as one event, and in the round."""

from typing import Any

import pytest

from api.store import leases
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster
from workers.agent.protocol.common import Decision
from workers.steps import nodes
from workers.steps import trainings as steps
from workers.steps.shared import decisions


def set_autonomy(live: LiveCluster, level: float) -> None:
    with live.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, live.cluster_id)
        cluster.config = cluster.config.model_copy(update={"daa_enabled": True})
        for node_id in (*live.workers, live.aggregator):
            uow.session.get_one(NodeRow, node_id).autonomy = level


def node_events(live: LiveCluster, event_type: str = "node.decision") -> list[dict[str, Any]]:
    """Return the events of this cluster's nodes. Other tests use the same database."""
    return [event for event in live.events(event_type) if event["node_id"] in (*live.workers, live.aggregator)]


def test_a_worker_that_declines_is_left_out_of_its_round_and_asked_again_for_the_next(live: LiveCluster) -> None:
    set_autonomy(live, 0.8)
    live.connect("ring")
    training_id = live.begin(epochs=2)
    steps.advance(live.context, training_id)
    # The data was checked, and changes before the worker trains.
    live.agents[3].put("/data/train_3.json", samples(8))
    status, rounds = live.run_to_end(training_id)
    assert status == "completed", rounds[-1].error
    reason = "7 usable samples are fewer than 8"
    for row in rounds:
        states = {name: (worker.state, worker.reason) for name, worker in row.workers.items()}
        assert states.pop(live.workers[3]) == ("declined", reason)
        assert set(states.values()) == {("done", None)}
        assert [decision.reason for decision in row.workers[live.workers[3]].decisions] == [reason]
    assert [(event["round"], event["action"], event["reason"]) for event in node_events(live)] == [
        (number, "decline_round", reason) for number in (1, 2)
    ]
    assert len(node_events(live, "round.worker_declined")) == 2


def test_where_all_decline_the_training_fails_and_says_so(live: LiveCluster) -> None:
    set_autonomy(live, 0.8)
    live.connect("star")
    training_id = live.begin(epochs=2)
    steps.advance(live.context, training_id)
    for number in range(4):
        live.agents[number].put(f"/data/train_{number}.json", samples(8))
    status, rounds = live.run_to_end(training_id)
    assert status == "failed"
    assert rounds[-1].error is not None
    assert rounds[-1].error.code == "quorum_not_met"


def test_every_halving_is_an_event_and_a_step_that_runs_twice_tells_it_once(live: LiveCluster) -> None:
    set_autonomy(live, 0.6)
    live.connect("star")
    status, rounds = live.train(epochs=4, local_epochs=2, learning_rate=10, optimizer="sgd")
    assert status == "completed", rounds[-1].error
    events = node_events(live)
    assert {event["action"] for event in events} == {"halve_learning_rate"}
    shown = [decision for row in rounds for worker in row.workers.values() for decision in worker.decisions]
    assert sorted(decision.at for decision in shown) == sorted(event["at"] for event in events)


def test_a_decision_is_told_once_by_its_node_and_moment(live: LiveCluster) -> None:
    live.connect("star")
    training_id = live.begin()
    reported = [Decision(action="restart_agent", reason="the agent ended with signal SIGKILL") for _ in range(2)]
    for expected in (2, 0):
        with live.database.unit_of_work() as uow:
            training = uow.session.get_one(TrainingRow, training_id)
            assert len(decisions.record_decisions(uow.session, training, 1, live.aggregator, reported)) == expected
    assert len(node_events(live)) == 2


@pytest.mark.parametrize(("level", "waits"), [(0.29, False), (0.3, True)])
def test_only_a_node_with_a_watchdog_is_given_time_to_restart_its_own_agent(
    live: LiveCluster, level: float, waits: bool
) -> None:
    set_autonomy(live, level)
    nodes.mark_lost(live.context, live.workers[0], "test")
    with live.database.unit_of_work() as uow:
        claim = leases.claim(uow.session, NodeRow, live.workers[0], 30)
    assert claim is not None
    plan = nodes._load(live.context, live.workers[0], claim.token)
    assert plan is not None
    assert plan.start_agent is not waits
    assert plan.autonomy.level == level
