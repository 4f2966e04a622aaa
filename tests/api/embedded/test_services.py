"""The command line and the environment of the API of the embedded stack."""

import os
import sys
from pathlib import Path

import pytest

from api.embedded import services
from api.embedded.state_folder import StateFolder


@pytest.mark.skipif(sys.platform != "linux", reason="the cores of this process are known on Linux")
@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)])
def test_one_api_process_for_each_two_cores(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert services.api_workers() == workers


@pytest.mark.parametrize(
    ("workers", "own", "pool"), [(1, {}, "20"), (2, {}, "10"), (64, {}, "5"), (2, {"FLOW_NEXUS_DATABASE_POOL_SIZE": "7"}, "7")]
)
def test_all_api_processes_together_have_the_connections_of_one(
    tmp_path: Path, workers: int, own: dict[str, str], pool: str
) -> None:
    spec = services.api(StateFolder(tmp_path / "home"), own, "127.0.0.1", 8700, "http://127.0.0.1:8700", workers)
    assert spec.argv[-2:] == ["--workers", str(workers)]
    assert spec.env["FLOW_NEXUS_DATABASE_POOL_SIZE"] == pool


@pytest.mark.parametrize(
    ("own", "level"),
    [({}, None), ({"FLOW_NEXUS_LOG_LEVEL": "error"}, "info"), ({"FLOW_NEXUS_LOG_LEVEL": "debug"}, "debug")],
)
def test_a_worker_and_beat_always_log_that_they_are_ready(tmp_path: Path, own: dict[str, str], level: str | None) -> None:
    folder = StateFolder(tmp_path / "home")
    for spec in (services.celery_worker(folder, own, 1), services.celery_beat(folder, own)):
        assert spec.env.get("FLOW_NEXUS_LOG_LEVEL") == level
