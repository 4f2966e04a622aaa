"""Trainings become runs of a real MLflow server, and a server that is away stops nothing."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from api.domain import ids
from api.services import trainings
from api.settings import Settings
from api.store import leases, transitions
from api.store.tables import MlflowRunRow, ModelRow
from tests import mlflow_tools
from tests.workers.steps.live_cluster import LiveCluster
from workers.context import Context
from workers.steps import mlflow_runs
from workers.steps import trainings as training_steps

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_tools.server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def context_of(live: LiveCluster, uri: str | None) -> Context:
    known = live.context.settings
    settings = Settings.model_validate({**known.model_dump(), "E2B_API_KEY": "unused", "mlflow_tracking_uri": uri})
    return dataclasses.replace(live.context, settings=settings)


def row_of(live: LiveCluster, training_id: str) -> MlflowRunRow:
    with live.database.unit_of_work() as uow:
        return uow.session.get_one(MlflowRunRow, training_id)


def sweep(live: LiveCluster, context: Context, training_id: str) -> bool:
    """Do what the sweep does: wake rows and run a due step. Return whether the training was due."""
    with live.database.unit_of_work() as uow:
        mlflow_runs.wake_due(context, uow)
        is_due = training_id in leases.due(uow.session, MlflowRunRow)
    if is_due:
        mlflow_runs.advance(context, training_id)
    return is_due


def change(live: LiveCluster, training_id: str, **fields: Any) -> None:
    with live.database.unit_of_work() as uow:
        uow.session.execute(update(MlflowRunRow).where(MlflowRunRow.id == training_id).values(**fields))


def runs_of(url: str, training_id: str) -> list[dict[str, Any]]:
    """Ask the server itself for the runs with the training's tag."""
    api = f"{url}/api/2.0/mlflow"
    experiment = httpx.get(f"{api}/experiments/get-by-name", params={"experiment_name": "Flow Nexus"}, timeout=30).json()
    body = {
        "experiment_ids": [experiment["experiment"]["experiment_id"]],
        "filter": f"tags.`flow_nexus.training_id` = '{training_id}'",
    }
    return list(httpx.post(f"{api}/runs/search", json=body, timeout=30).json().get("runs", []))


def run_of(url: str, training_id: str) -> dict[str, Any]:
    (run,) = runs_of(url, training_id)
    return run


def values(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: pair["value"] for pair in pairs}


def history(url: str, run: dict[str, Any], name: str) -> list[dict[str, Any]]:
    query = {"run_id": run["info"]["run_id"], "metric_key": name}
    answer = httpx.get(f"{url}/api/2.0/mlflow/metrics/get-history", params=query, timeout=30).json()
    return list(answer.get("metrics", []))


def artifacts(url: str, run: dict[str, Any], path: str) -> list[dict[str, Any]]:
    query = {"run_id": run["info"]["run_id"], "path": path}
    return list(httpx.get(f"{url}/api/2.0/mlflow/artifacts/list", params=query, timeout=30).json().get("files", []))


def exported(live: LiveCluster, context: Context, training_id: str, name: str, content: bytes) -> str:
    """Write what the step of an export leaves: a completed row and its tar."""
    with live.database.unit_of_work() as uow:
        model = ModelRow(
            id=ids.model_id(),
            project_id=live.project_id,
            cluster_id=live.cluster_id,
            training_id=training_id,
            status="pending",
            name=name,
            digest="0",
        )
        transitions.created(uow.session, model, name=name)
        transitions.move(uow.session, model, "completed", name=name)
    (context.settings.models_dir / f"{model.id}.tar").write_bytes(content)
    return model.id


def test_a_training_is_a_run_with_its_options_rounds_exports_and_end(live: LiveCluster, mlflow: str) -> None:
    context = context_of(live, mlflow)
    live.connect("star")
    training_id = live.begin(epochs=2)
    assert sweep(live, context, training_id)
    assert run_of(mlflow, training_id)["info"]["status"] == "RUNNING"
    assert not sweep(live, context, training_id), "the server has all there is"
    status, rounds = live.run_to_end(training_id)
    assert status == "completed"
    model_id = exported(live, context, training_id, "feedback", b"an export")
    assert sweep(live, context, training_id)

    run, training = run_of(mlflow, training_id), live.read(training_id)
    assert training.finished_at
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] == int(training.finished_at.timestamp() * 1000)
    params = values(run["data"]["params"])
    expected = {"epochs": "2", "batch_size": "8", "strategy": "fedavg", "workers": "4", "cluster.topology": "star"}
    assert {name: params[name] for name in expected} == expected
    assert params["dataset"] == training.config.dataset
    tags = values(run["data"]["tags"])
    assert tags["flow_nexus.cluster_id"] == live.cluster_id
    assert tags["flow_nexus.project_id"] == live.project_id
    assert tags["flow_nexus.export.feedback"] == f"/v1/models/{model_id}/download"
    for name in ("global_loss", "validation_accuracy"):
        points = [(point["step"], point["timestamp"], point["value"]) for point in history(mlflow, run, name)]
        assert points == [
            (row.round, int(row.finished_at.timestamp() * 1000), getattr(row, name)) for row in rounds if row.finished_at
        ]
    (file,) = artifacts(mlflow, run, f"exports/{model_id}")
    assert (file["path"], file["file_size"]) == (f"exports/{model_id}/feedback.tar", len(b"an export"))
    assert not sweep(live, context, training_id)

    # The server has what a step sent that died before it wrote that down.
    change(live, training_id, run_id=None, status=None, rounds=0)
    assert sweep(live, context, training_id)
    assert len(history(mlflow, run_of(mlflow, training_id), "global_loss")) == 2

    with live.database.unit_of_work() as uow:
        trainings.resume(uow, live.project_id, training_id, epochs=1)
    assert sweep(live, context, training_id)
    assert run_of(mlflow, training_id)["info"]["status"] == "RUNNING"


def test_a_server_that_is_away_is_a_warning_and_gets_all_of_it_later(
    live: LiveCluster, mlflow: str, caplog: pytest.LogCaptureFixture
) -> None:
    away = context_of(live, f"http://127.0.0.1:{mlflow_tools.free_port()}")
    live.connect("star")
    training_id = live.begin(epochs=2)
    with caplog.at_level(logging.WARNING):
        assert sweep(live, away, training_id)
        change(live, training_id, due_at=func.clock_timestamp())
        assert sweep(live, away, training_id)
    assert [record.getMessage() for record in caplog.records] == [
        f"{training_id}: it could not be sent to MLflow: MlflowException; it is tried again for a day"
    ]
    assert live.run_to_end(training_id)[0] == "completed"
    assert not sweep(live, away, training_id), "it waits for the end of a pause"
    row = row_of(live, training_id)
    with live.database.unit_of_work() as uow:
        pause = row.due_at - uow.session.execute(select(func.clock_timestamp())).scalar_one() if row.due_at else None
    change(live, training_id, due_at=func.clock_timestamp())
    assert pause is not None
    assert timedelta(0) < pause < timedelta(minutes=10)
    assert sweep(live, context_of(live, mlflow), training_id)
    run = run_of(mlflow, training_id)
    assert run["info"]["status"] == "FINISHED"
    assert [point["step"] for point in history(mlflow, run, "global_loss")] == [1, 2]
    assert row_of(live, training_id).failing_since is None


def test_after_a_day_no_more_is_sent(live: LiveCluster, mlflow: str, caplog: pytest.LogCaptureFixture) -> None:
    away = context_of(live, f"http://127.0.0.1:{mlflow_tools.free_port()}")
    live.connect("star")
    training_id = live.begin(epochs=1)
    sweep(live, away, training_id)
    now = func.clock_timestamp()
    change(live, training_id, due_at=now, failing_since=now - mlflow_runs.GIVE_UP_AFTER)
    with caplog.at_level(logging.WARNING):
        assert sweep(live, away, training_id)
    assert "no more is sent of it" in caplog.text
    assert live.run_to_end(training_id)[0] == "completed"
    assert not sweep(live, context_of(live, mlflow), training_id)
    assert runs_of(mlflow, training_id) == []


def test_a_refused_training_is_a_failed_run_with_its_code(live: LiveCluster, mlflow: str) -> None:
    context = context_of(live, mlflow)
    live.connect("star")
    training_id = live.begin(epochs=1, dataset="/data/none_*.json")
    end = time.monotonic() + 60
    while live.read(training_id).status == "pending":
        training_steps.advance(live.context, training_id)
        assert time.monotonic() < end
    assert live.read(training_id).status == "refused"
    sweep(live, context, training_id)
    run = run_of(mlflow, training_id)
    error = live.read(training_id).error
    assert error is not None
    assert (run["info"]["status"], values(run["data"]["tags"])["flow_nexus.error"]) == ("FAILED", error.code)


def test_where_artifacts_cannot_be_uploaded_the_run_has_the_path(live: LiveCluster, tmp_path: Path) -> None:
    plain = ("--no-serve-artifacts", "--default-artifact-root", str(tmp_path / "its own folder"))
    with mlflow_tools.server(tmp_path, 0, *plain) as url:
        context = context_of(live, url)
        live.connect("star")
        training_id = live.begin(epochs=1)
        live.run_to_end(training_id)
        model_id = exported(live, context, training_id, "feedback", b"an export")
        assert sweep(live, context, training_id)
        run = run_of(url, training_id)
        assert values(run["data"]["tags"])["flow_nexus.export.feedback"] == f"/v1/models/{model_id}/download"
    assert not list(tmp_path.rglob("feedback.tar")), "nothing was written into a folder of this machine"


def test_without_the_setting_no_row_is_written(live: LiveCluster) -> None:
    live.connect("star")
    training_id = live.begin(epochs=1)
    assert not sweep(live, context_of(live, None), training_id)
    with live.database.unit_of_work() as uow:
        assert uow.session.get(MlflowRunRow, training_id) is None
