"""Large shards: preparation goes on over several steps, and tells how far it is."""

import json

import pytest

from api.services import trainings
from api.store.tables import TrainingRow
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import trainings as steps
from workers.steps.rounds import reading
from workers.steps.trainings import interrupt

LARGE = "\n".join(json.dumps(row) for row in samples(60_000)).encode()


def row_of(live: LiveCluster, training_id: str) -> TrainingRow:
    with live.database.unit_of_work() as uow:
        row = trainings.get(uow.session, live.project_id, training_id)
        uow.session.expunge(row)
        return row


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_POLL_S", 0.3)
    monkeypatch.setattr(reading, "_ASK_S", 0.1)
    monkeypatch.setattr(reading, "_LEAST_S", 0.1)
    monkeypatch.setattr(reading, "_NOTE_S", 0.05)


@pytest.mark.usefixtures("short_polls")
def test_each_step_goes_on_with_the_reading_and_tells_how_far_it_is(live: LiveCluster) -> None:
    live.connect("star")
    live.agents[0].put("/data/train_0.json", LARGE)
    training_id = live.begin(dataset="/data/train_*.json", epochs=1, max_length=8)
    seen: list[float] = []
    for _ in range(200):
        steps.advance(live.context, training_id)
        row = row_of(live, training_id)
        if row.status != "pending":
            break
        assert row.preparation is not None
        assert row.failures == 0
        seen.append(row.preparation.progress)
    assert (row.status, row.preparation) == ("training", None)
    assert seen[0] < max(seen)
    told = [event for event in live.events("training.preparing") if event["training_id"] == training_id]
    assert [event["progress"] for event in told] == seen
    assert told[-1]["nodes"][live.workers[0]]["bytes_total"] == len(LARGE)
    assert {stage["stage"] for event in told for stage in event["nodes"].values()} == {"check", "tokens"}


@pytest.mark.usefixtures("short_polls")
def test_a_frozen_agent_is_noticed_while_it_reads(live: LiveCluster) -> None:
    live.connect("star")
    live.agents[0].put("/data/train_0.json", LARGE)
    training_id = live.begin(epochs=1)
    steps.advance(live.context, training_id)
    assert row_of(live, training_id).status == "pending"
    live.agents[0].die()
    steps.advance(live.context, training_id)
    assert [event["node_id"] for event in live.events("node.lost")][-1] == live.workers[0]


@pytest.mark.usefixtures("short_polls")
def test_a_training_is_stopped_while_its_data_is_read(live: LiveCluster) -> None:
    live.connect("star")
    live.agents[0].put("/data/train_0.json", LARGE)
    training_id = live.begin(epochs=1)
    steps.advance(live.context, training_id)
    with live.database.unit_of_work() as uow:
        trainings.stop(uow, live.project_id, training_id)
    interrupt(live.context, training_id)
    steps.advance(live.context, training_id)
    row = row_of(live, training_id)
    assert (row.status, row.preparation) == ("stopped", None)


@pytest.mark.usefixtures("short_polls")
def test_a_problem_in_a_small_shard_does_not_wait_for_a_large_one(live: LiveCluster) -> None:
    live.connect("star")
    live.agents[0].put("/data/train_0.json", LARGE)
    live.agents[1].put("/data/train_1.json", [{"text": "no label"}])
    training_id = live.begin(epochs=1)
    steps.advance(live.context, training_id)
    row = row_of(live, training_id)
    assert row.status == "refused"
    assert row.error is not None
    assert row.error.code == "unlabelled"
