"""A node's own decisions reach the control plane: each as one event, and in the round."""

from typing import Any

import pytest

from api.store import leases
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from tests.workers.agent.texts import samples
from tests.workers.steps.house import House
from workers.agent.protocol.common import Decision
from workers.steps import nodes
from workers.steps import trainings as steps
from workers.steps.shared import decisions


def free(house: House, level: float) -> None:
    with house.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, house.cluster_id)
        cluster.config = cluster.config.model_copy(update={"daa_enabled": True})
        for node_id in (*house.workers, house.aggregator):
            uow.session.get_one(NodeRow, node_id).autonomy = level


def told(house: House, kind: str = "node.decision") -> list[dict[str, Any]]:
    """This house's events; the database is all houses'."""
    return [event for event in house.events(kind) if event["node_id"] in (*house.workers, house.aggregator)]


def test_a_worker_that_declines_is_left_out_of_its_round_and_asked_again_for_the_next(house: House) -> None:
    free(house, 0.8)
    house.connect("ring")
    training_id = house.begin(epochs=2)
    steps.advance(house.context, training_id)
    # The data was looked at; what the worker finds when it trains is another.
    house.agents[3].put("/data/train_3.json", samples(8))
    status, rounds = house.go_on(training_id)
    assert status == "completed", rounds[-1].error
    reason = "7 usable samples are fewer than 8"
    for row in rounds:
        states = {name: (worker.state, worker.reason) for name, worker in row.workers.items()}
        assert states.pop(house.workers[3]) == ("declined", reason)
        assert set(states.values()) == {("done", None)}
        assert [one["reason"] for one in row.workers[house.workers[3]].decisions] == [reason]
    assert [(event["round"], event["action"], event["reason"]) for event in told(house)] == [
        (number, "decline_round", reason) for number in (1, 2)
    ]
    assert len(told(house, "round.worker_declined")) == 2


def test_where_all_decline_the_training_fails_and_says_so(house: House) -> None:
    free(house, 0.8)
    house.connect("star")
    training_id = house.begin(epochs=2)
    steps.advance(house.context, training_id)
    for number in range(4):
        house.agents[number].put(f"/data/train_{number}.json", samples(8))
    status, rounds = house.go_on(training_id)
    assert status == "failed"
    assert rounds[-1].error is not None
    assert rounds[-1].error.code == "quorum_not_met"


def test_every_halving_is_an_event_and_a_step_that_runs_twice_tells_it_once(house: House) -> None:
    free(house, 0.6)
    house.connect("star")
    status, rounds = house.train(epochs=4, local_epochs=2, learning_rate=10, optimizer="sgd")
    assert status == "completed", rounds[-1].error
    events = told(house)
    assert {event["action"] for event in events} == {"halve_learning_rate"}
    shown = [one for row in rounds for worker in row.workers.values() for one in worker.decisions]
    assert sorted(one["at"] for one in shown) == sorted(event["at"] for event in events)


def test_a_decision_is_told_once_by_its_node_and_moment(house: House) -> None:
    house.connect("star")
    training_id = house.begin()
    made = [Decision(action="restart_agent", reason="the agent ended with signal SIGKILL") for _ in range(2)]
    for expected in (2, 0):
        with house.database.unit_of_work() as uow:
            training = uow.session.get_one(TrainingRow, training_id)
            assert len(decisions.record_decisions(uow.session, training, 1, house.aggregator, made)) == expected
    assert len(told(house)) == 2


@pytest.mark.parametrize(("level", "waits"), [(0.29, False), (0.3, True)])
def test_only_a_node_with_a_watchdog_is_given_time_to_restart_its_own_agent(house: House, level: float, waits: bool) -> None:
    free(house, level)
    nodes.mark_lost(house.context, house.workers[0], "test")
    with house.database.unit_of_work() as uow:
        token = leases.claim(uow.session, NodeRow, house.workers[0], 30)
    assert token is not None
    plan = nodes._load(house.context, house.workers[0], token)
    assert plan is not None
    assert plan.start_agent is not waits
    assert plan.autonomy.level == level
