"""A training begins from a model of its project, and a completed one goes on, with real agents."""

import shutil
from typing import Any

import pytest

from api.domain import ids
from api.domain.errors import ConflictError, NotFoundError
from api.schemas.trainings import Training
from api.services import trainings
from api.store.tables import ProjectRow, TrainingRow
from tests.workers.agent.texts import LABELS, samples, spec
from tests.workers.steps.live_cluster import LiveCluster
from workers.agent.protocol.exports import ExportModel
from workers.steps import trainings as steps
from workers.steps.rounds import initial_models
from workers.steps.shared.node_snapshot import agent_of
from workers.steps.shared.training_snapshot import load

# So small that a round changes nothing that counts.
STILL: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-9}


@pytest.fixture
def taught(live: LiveCluster) -> tuple[LiveCluster, Training]:
    """Yield a cluster, and its training that has learned the three classes."""
    live.connect("star")
    live.agents[-1].put("/data/validation.json", samples(60, 90_000))
    training_id = live.begin(epochs=12, learning_rate=0.02)
    status, rounds = live.run_to_end(training_id)
    assert (status, rounds[-1].validation_accuracy) == ("completed", 1.0)
    return live, training(live, training_id)


def training(live: LiveCluster, training_id: str) -> Training:
    with live.database.unit_of_work() as uow:
        return Training.of(trainings.get(uow.session, live.project_id, training_id))


def flags(live: LiveCluster, training_id: str) -> dict[str, str]:
    with live.database.unit_of_work() as uow:
        return {flag.code: flag.message for flag in trainings.get(uow.session, live.project_id, training_id).red_flags}


def refused(live: LiveCluster, **fields: Any) -> TrainingRow:
    training_id = live.begin(**fields)
    steps.advance(live.context, training_id)
    with live.database.unit_of_work() as uow:
        row = trainings.get(uow.session, live.project_id, training_id)
    assert row.status == "refused"
    return row


def export(live: LiveCluster, old: Training, name: str = "old") -> str:
    model = spec("/models/tiny", labels=old.labels, max_length=16, seed=0)
    with live.database.unit_of_work() as uow:
        digest = trainings.get(uow.session, live.project_id, old.training_id).digest or ""
    request = ExportModel(training_id=old.training_id, name=name, model=model, digest=digest)
    return str(live.agents[-1].call("POST", "/exports", request)["path"])


def test_it_begins_with_the_weights_of_a_training(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    _, scratch = live.train(**STILL)
    new_id = live.begin(**STILL, initial_model=old.training_id)
    status, rounds = live.run_to_end(new_id)
    assert (status, rounds[0].validation_accuracy) == ("completed", 1.0)
    assert scratch[0].validation_accuracy is not None
    assert scratch[0].validation_accuracy < 0.7
    new = training(live, new_id)
    assert (new.labels, new.initial_model and new.initial_model.source) == (LABELS, old.training_id)
    assert new.initial_model is not None
    assert new.initial_model.digest == rounds[0].base_digest, "the same tensors have the same digest"


@pytest.mark.parametrize("tar", [False, True])
def test_it_begins_with_the_weights_of_an_export(taught: tuple[LiveCluster, Training], tar: bool) -> None:
    live, old = taught
    path = export(live, old)
    root = live.agents[-1].root
    if tar:
        shutil.make_archive(str(root / "data/old"), "tar", root / "export", "old")
        path = "/data/old.tar"
    new_id = live.begin(**STILL, initial_model=path)
    _, rounds = live.run_to_end(new_id)
    assert rounds[0].validation_accuracy == 1.0
    found = training(live, new_id).initial_model
    assert found is not None
    assert (found.source, found.labels, found.digest) == (path, LABELS, rounds[0].base_digest)
    assert not tar or (root / "data/old.tar").exists(), "the user's own file stays"


def test_new_classes_follow_the_old_ones_and_the_old_ones_are_still_predicted(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    for number, worker in enumerate(live.agents[:-1]):
        more = [{"text": f"the lamp number {at} is great and awful", "sentiment": "both"} for at in range(8)]
        worker.put(f"/data/train_{number}.json", [*samples(24, number * 1000), *more])
    new_id = live.begin(epochs=3, learning_rate=0.005, initial_model=old.training_id)
    _, rounds = live.run_to_end(new_id)
    assert training(live, new_id).labels == [*LABELS, "both"], "not sorted: the old classes keep their places"
    assert rounds[0].validation_accuracy is not None
    assert rounds[0].validation_accuracy >= 0.9
    assert "untrained_classes" not in flags(live, new_id)


def test_an_old_class_that_no_shard_has_stays_with_a_red_flag(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    for number, worker in enumerate(live.agents[:-1]):
        rows = [row for row in samples(30, number * 1000) if row["sentiment"] != "neutral"]
        worker.put(f"/data/train_{number}.json", rows)
    new_id = live.begin(**STILL, initial_model=old.training_id)
    _, rounds = live.run_to_end(new_id)
    assert training(live, new_id).labels == LABELS
    assert flags(live, new_id)["untrained_classes"].startswith("No shard has samples of 'neutral'.")
    assert "missing_classes" not in flags(live, new_id)
    assert rounds[0].validation_accuracy == 1.0, "its texts are still predicted"


def test_adapters_are_trained_on_top_of_the_earlier_model(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    new_id = live.begin(**STILL, initial_model=old.training_id, compression="lora", lora_rank=2)
    status, rounds = live.run_to_end(new_id)
    assert (status, rounds[0].validation_accuracy) == ("completed", 1.0)
    again_id = live.begin(**STILL, initial_model=new_id)
    status, rounds = live.run_to_end(again_id)
    assert (status, rounds[0].validation_accuracy) == ("completed", 1.0)


def test_a_pooled_training_begins_from_it_too(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    live.agents[-1].put("/data/train_all.json", samples(60, 50_000))
    status, rounds = live.train(**STILL, federated=False, initial_model=old.training_id)
    assert (status, rounds[0].validation_accuracy) == ("completed", 1.0)


@pytest.mark.parametrize("path", ["/export/nothing", "/data/validation.json", "/data"])
def test_what_is_no_export_is_refused_with_its_field(taught: tuple[LiveCluster, Training], path: str) -> None:
    live, _ = taught
    error = refused(live, **STILL, initial_model=path).error
    assert error is not None
    assert (error.status, error.code) == (422, "export_missing" if path == "/export/nothing" else "bad_export")
    assert [field.pointer for field in error.errors] == ["/initial_model"]


def test_another_projects_training_is_not_found(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    with live.database.unit_of_work() as uow:
        other = ProjectRow(id=ids.project_id(), name=ids.random_part())
        uow.session.add(other)
        uow.session.flush()
        uow.session.get_one(TrainingRow, old.training_id).project_id = other.id
    with pytest.raises(NotFoundError) as caught:
        live.begin(**STILL, initial_model=old.training_id)
    with pytest.raises(NotFoundError) as unknown:
        live.begin(**STILL, initial_model="train_fed_nothing")
    assert caught.value.detail.replace(old.training_id, "train_fed_nothing") == unknown.value.detail


def test_a_step_that_died_after_the_model_arrived_is_repeated(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    path = export(live, old)
    training_id = live.begin(**STILL, initial_model=path)
    with live.database.unit_of_work() as uow:
        seen = load(uow.session, uow.session.get_one(TrainingRow, training_id))
    aggregator = seen.aggregator
    assert aggregator is not None

    async def die_after_it() -> None:
        agent = await agent_of(live.context, aggregator)
        await initial_models.fetch(live.context, seen, aggregator, agent)

    live.context.network.run(die_after_it())
    status, rounds = live.run_to_end(training_id)
    assert (status, rounds[0].validation_accuracy) == ("completed", 1.0)
    begun = [event for event in live.events("training.training") if event["training_id"] == training_id]
    assert len(begun) == 1
    assert len(list((live.agents[-1].root / "model" / training_id).glob("*.safetensors"))) <= 2


def test_an_aggregator_that_lost_the_first_model_makes_it_again(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    training_id = live.begin(**STILL, initial_model=old.training_id)
    steps.advance(live.context, training_id)
    shutil.rmtree(live.agents[-1].root / "model")
    status, rounds = live.run_to_end(training_id)
    assert (status, rounds[0].validation_accuracy) == ("completed", 1.0), rounds[0].error


def test_a_completed_training_is_extended(taught: tuple[LiveCluster, Training]) -> None:
    live, _ = taught
    training_id = live.begin(epochs=3, local_epochs=2, learning_rate=0.005)
    _, before = live.run_to_end(training_id)
    with live.database.unit_of_work() as uow:
        trainings.resume(uow, live.project_id, training_id, 3)
    with live.database.unit_of_work() as uow, pytest.raises(ConflictError) as caught:
        trainings.resume(uow, live.project_id, training_id, 3)
    assert caught.value.code == "not_resumable", "a repeated request adds nothing"
    status, rounds = live.run_to_end(training_id)
    assert (status, [row.round for row in rounds]) == ("completed", [1, 2, 3, 4])
    assert [row.digest for row in rounds[:2]] == [row.digest for row in before]
    assert rounds[2].base_digest == before[1].digest
    extended = training(live, training_id)
    assert (extended.config.epochs, extended.config.extended_after, extended.completed_rounds) == (6, (3,), 4)
    pending = [event for event in live.events("training.pending") if event["training_id"] == training_id]
    assert [event.get("reason") for event in pending] == [None, "extended"]
    epochs = [event["epoch"] for event in live.events("round.completed") if event["training_id"] == training_id]
    assert epochs == [2, 3, 5, 6]


def test_an_extended_training_keeps_its_classes(taught: tuple[LiveCluster, Training]) -> None:
    live, old = taught
    workers = live.agents[:-1]
    for number, worker in enumerate(workers):
        rows = [row for row in samples(30, number * 1000) if row["sentiment"] != "neutral"]
        worker.put(f"/data/train_{number}.json", rows)
    extend(live, old.training_id)
    assert live.run_to_end(old.training_id)[0] == "completed"
    assert training(live, old.training_id).labels == LABELS, "no shard has one of them any more"
    assert "untrained_classes" in flags(live, old.training_id)
    workers[0].put("/data/train_0.json", [*samples(24, 0), {"text": "a secret", "sentiment": "both"}])
    extend(live, old.training_id)
    assert live.run_to_end(old.training_id)[0] == "failed"
    error = training(live, old.training_id).error
    assert error is not None
    assert (error.code, error.detail.split(".")[0]) == (
        "labels_changed",
        "1 labels of the shards are no class of this training",
    )


def extend(live: LiveCluster, training_id: str) -> None:
    with live.database.unit_of_work() as uow:
        trainings.resume(uow, live.project_id, training_id, 1)


def test_epsilon_is_counted_on_and_a_spent_target_is_refused(taught: tuple[LiveCluster, Training]) -> None:
    live, _ = taught
    private: dict[str, Any] = {"differential_privacy": {"noise_multiplier": 2.0}, "epochs": 1}
    training_id = live.begin(**private)
    live.run_to_end(training_id)
    first = training(live, training_id).privacy
    with live.database.unit_of_work() as uow:
        trainings.resume(uow, live.project_id, training_id, 2)
    live.run_to_end(training_id)
    last = training(live, training_id).privacy
    assert first is not None
    assert last is not None
    assert last.epsilon > 1.3 * first.epsilon
    with live.database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        privacy = row.config.differential_privacy
        assert privacy is not None
        # As if the same rounds had been planned for a target that they have just spent.
        spent = privacy.model_copy(update={"target_epsilon": last.epsilon, "noise_multiplier": None})
        row.config = row.config.model_copy(update={"differential_privacy": spent})
    with live.database.unit_of_work() as uow, pytest.raises(ConflictError) as caught:
        trainings.resume(uow, live.project_id, training_id, 50)
    assert caught.value.code == "epsilon_spent"
    assert training(live, training_id).status == "completed"
