"""Send trainings to an MLflow server, each as a run.

Only this file imports mlflow, which is an extra and takes seconds to import.
"""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from workers.agent.protocol.exports import RoundMetrics

log = logging.getLogger(__name__)
T = TypeVar("T")
TRAINING_TAG = "flow_nexus.training_id"
# Defaults that an operator may replace. MLflow's own would wait for minutes and call other hosts.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
}
# Older servers refuse longer ones.
_LONGEST_PARAM = 500
# MLflow's limits of one call.
_MOST_PARAMS = 100
_MOST_METRICS = 1000


class TrackingError(Exception):
    """The MLflow server cannot be reached, or refuses what is sent.

    It has the type of the library's error, never its message.
    """


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model. `archive` is its tar on this machine."""

    model_id: str
    name: str
    archive: Path


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a training ended. `status` is one of MLflow's words."""

    status: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """What the run of a training does not show yet.

    `run_id` is None before the run is known. `params` are empty after the first update. `end` is
    None while the training is active.
    """

    training_id: str
    run_id: str | None
    started_ms: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    rounds: Sequence[RoundMetrics]
    exports: Sequence[Export]
    end: RunEnd | None


def _library(name: str) -> Any:
    """Import a module of MLflow when it is needed. Its types are not: mypy would read them for a
    minute.
    """
    return import_module(name)


def send(uri: str, experiment: str, update: RunUpdate) -> str:
    """Send an update and return the run's id. To send it again changes nothing.

    Raises:
        TrackingError: the server is away or refuses it.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        client = _library("mlflow").MlflowClient(tracking_uri=uri)
        run_id = update.run_id or _run_of(client, experiment, update)
        _send(client, run_id, update)
    except Exception as error:  # noqa: BLE001 - the library's errors are of many kinds, and quote what was sent
        raise TrackingError(type(error).__name__) from None
    return run_id


def _run_of(client: Any, experiment: str, update: RunUpdate) -> str:
    """Return the run of the training. Create it unless an earlier step did so and then died."""
    experiment_id = _experiment_id(client, experiment)
    found = client.search_runs([experiment_id], f"tags.`{TRAINING_TAG}` = '{update.training_id}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    created = client.create_run(
        experiment_id, start_time=update.started_ms, tags=dict(update.tags), run_name=update.training_id
    )
    return str(created.info.run_id)


def _experiment_id(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except _library("mlflow.exceptions").MlflowException:
            # Another worker may have created it meanwhile.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _send(client: Any, run_id: str, update: RunUpdate) -> None:
    entities = _library("mlflow.entities")
    params = [entities.Param(name, value[:_LONGEST_PARAM]) for name, value in update.params.items()]
    for params_part in _parts(params, _MOST_PARAMS):
        client.log_batch(run_id, params=params_part)
    metrics = [
        entities.Metric(name, value, int(done.ended_at * 1000), done.number)
        for done in update.rounds
        for name, value in done.values.items()
    ]
    for metrics_part in _parts(metrics, _MOST_METRICS):
        client.log_batch(run_id, metrics=metrics_part)
    client.log_batch(run_id, tags=[entities.RunTag(name, value) for name, value in update.tags.items()])
    for export in update.exports:
        client.set_tag(run_id, f"flow_nexus.export.{export.name}", f"/v1/models/{export.model_id}/download")
        _upload(client, run_id, export)
    if update.end is None:
        client.update_run(run_id, status="RUNNING")
    else:
        client.set_terminated(run_id, status=update.end.status, end_time=update.end.at_ms)


def _upload(client: Any, run_id: str, export: Export) -> None:
    """Upload an export's tar. Where that is not possible, the tag with its path is all there is."""
    if urlsplit(client.get_run(run_id).info.artifact_uri).scheme in ("", "file"):
        log.warning("%s: MLflow keeps artifacts in a folder of its own machine; only the path is sent", export.model_id)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"{export.name}.tar"
        link.symlink_to(export.archive.absolute())
        try:
            client.log_artifact(run_id, str(link), artifact_path=f"exports/{export.model_id}")
        except Exception as error:  # noqa: BLE001 - stores of many kinds raise errors of their own
            log.warning("%s: it could not be uploaded to MLflow: %s", export.model_id, type(error).__name__)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))
