"""Prometheus finds the metrics of an embedded stack by a file."""

import json
import socket
from pathlib import Path

import pytest

from api.embedded import monitoring
from api.embedded.errors import StackError
from api.embedded.state_folder import StateFolder
from tests.api.routes.conftest import make_settings

URL = "http://127.0.0.1:8700"


def targets(folder: StateFolder) -> dict[str, list[str]]:
    listed = json.loads((folder.path / "prometheus.json").read_text())
    return {group["labels"]["job"]: group["targets"] for group in listed}


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path)


def test_the_worker_has_a_port_and_loopback_shows_trainings(folder: StateFolder) -> None:
    used = monitoring.settings(folder, "127.0.0.1", {})
    port = used["FLOW_NEXUS_WORKER_METRICS_PORT"]
    assert used == {"FLOW_NEXUS_WORKER_METRICS_PORT": port, "FLOW_NEXUS_METRICS_PER_TRAINING": "true"}
    assert monitoring.settings(folder, "127.0.0.1", {}) == used, "the same port as last time"
    monitoring.write_targets(folder, URL, used)
    assert targets(folder) == {"flow-nexus-api": ["127.0.0.1:8700"], "flow-nexus-worker": [f"127.0.0.1:{port}"]}


def test_an_open_address_shows_no_training(folder: StateFolder) -> None:
    assert "FLOW_NEXUS_METRICS_PER_TRAINING" not in monitoring.settings(folder, "0.0.0.0", {})
    assert not make_settings("postgresql://", folder.path).shows_trainings


@pytest.mark.parametrize("name", ["FLOW_NEXUS_METRICS_PORT", "FLOW_NEXUS_WORKER_METRICS_PORT"])
def test_a_port_that_cannot_be_used_is_named(folder: StateFolder, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in ("0", "65536", "nine", str(taken.getsockname()[1])):
            with pytest.raises(StackError, match=name):
                monitoring.settings(folder, "127.0.0.1", {name: port})


def test_what_the_caller_chose_stays(folder: StateFolder) -> None:
    chosen = {
        "FLOW_NEXUS_METRICS_PORT": "9101",
        "FLOW_NEXUS_WORKER_METRICS_PORT": "9102",
        "FLOW_NEXUS_METRICS_HOST": "0.0.0.0",
        "FLOW_NEXUS_METRICS_PER_TRAINING": "false",
    }
    assert monitoring.settings(folder, "127.0.0.1", chosen) == {}
    monitoring.write_targets(folder, URL, chosen)
    assert targets(folder) == {"flow-nexus-api": ["127.0.0.1:9101"], "flow-nexus-worker": ["127.0.0.1:9102"]}
    monitoring.write_targets(folder, URL, {"FLOW_NEXUS_WORKER_METRICS_PORT": "9102", "FLOW_NEXUS_METRICS_HOST": "::"})
    assert targets(folder)["flow-nexus-worker"] == ["[::1]:9102"]
    monitoring.write_targets(folder, URL, {"FLOW_NEXUS_WORKER_METRICS_PORT": "null", "FLOW_NEXUS_METRICS_PORT": "null"})
    assert targets(folder) == {"flow-nexus-api": ["127.0.0.1:8700"]}
