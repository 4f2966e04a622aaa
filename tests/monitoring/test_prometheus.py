"""A real Prometheus reads the real stack while it trains. Boards and alerts have their data."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Walk, samples
from tests.monitoring.expressions import BOARDS, METRIC, MONITORING, of_alerts, of_board
from tests.monitoring.promtool import PROMETHEUS

TARGETS = "../../.flow-nexus/prometheus.json"
ACTIVE = "flow_nexus_training_job_epoch"
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="Debian's package prometheus is not installed")


class Prometheus:
    """A running Prometheus with the configuration of `deploy/monitoring`, but short intervals."""

    def __init__(self, stack: EmbeddedStack, folder: Path) -> None:
        config = (MONITORING / "prometheus.yml").read_text()
        for old, new in (
            (TARGETS, str(stack.folder.path / "prometheus.json")),
            ("alerts.yml", str(MONITORING / "alerts.yml")),
            ("15s", "2s"),
        ):
            assert old in config
            config = config.replace(old, new)
        (folder / "prometheus.yml").write_text(config)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [
            *(str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            *(f"--web.listen-address={address}", "--log.level=error"),
        ]
        self._process = subprocess.Popen(command)
        self._http = httpx.Client(base_url=f"http://{address}/api/v1", timeout=30)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """Return what an expression gives now, without what is not a number."""
        values = [float(series["value"][1]) for series in self.get("/query", query=expression)["result"]]
        return [value for value in values if value == value]

    def answers(self) -> bool:
        try:
            return len(self.values('up{job=~"flow-nexus-.*"} == 1')) == 2
        except (httpx.HTTPError, ValueError):  # Until it is ready, it answers in words.
            return False

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait(30)


def until(condition: Callable[[], bool], what: str, within_s: float = 120) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def until_none_lacks_data(prometheus: Prometheus, asked: Sequence[tuple[str, str, str]], within_s: float = 60) -> None:
    """Evaluate all expressions at one moment. On a loaded machine, one of its scrapes may fail."""
    end = time.monotonic() + within_s
    while without := [item for item in asked if not prometheus.values(item[-1])]:
        assert time.monotonic() < end, without
        time.sleep(1)


@pytest.fixture(scope="module")
def prometheus(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    running = Prometheus(stack, tmp_path_factory.mktemp("prometheus"))
    try:
        until(running.answers, "Prometheus does not read the API and the Celery worker")
        yield running
    finally:
        running.close()


@pytest.mark.timeout(400)
def test_every_board_and_every_alert_has_its_data_while_a_training_runs(walk: Walk, prometheus: Prometheus) -> None:
    cluster_id, workers, aggregator = walk.cluster(2, budget_usd=100)
    try:
        walk.shards(workers)
        walk.upload(aggregator, "/data/validation.json", samples(60, 90_000), status=201)
        training_id = walk.train(cluster_id, epochs=2000)["training_id"]
        mine = f'{{training_id="{training_id}"}}'
        until(lambda: prometheus.values(f"{ACTIVE}{mine} >= 3") != [], "no round is seen")

        asked = [(path.stem, *panel) for path in BOARDS for panel in of_board(path, training_id)]
        asked += [
            (name, "its metric", metric) for name, expression in of_alerts().items() for metric in METRIC.findall(expression)
        ]
        until_none_lacks_data(prometheus, asked)
        for expression in of_alerts().values():
            prometheus.values(expression)
        rules = [rule for group in prometheus.get("/rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(of_alerts(), "ok")

        shown = walk.session(cluster_id)
        assert prometheus.values(f"flow_nexus_cluster_workers_healthy{mine}") == [2]
        assert prometheus.values(f"flow_nexus_cluster_budget_dollars{mine}") == [100]
        assert prometheus.values(f"flow_nexus_training_job_epochs{mine}") == [2000]
        assert prometheus.values(f"{ACTIVE}{mine}")[0] <= shown["epoch"]
        assert prometheus.values('sum(flow_nexus_round_updates_total{outcome="accepted"})')[0] >= 6
        assert prometheus.values('sum(flow_nexus_round_transferred_bytes_total{direction="to_aggregator"})')[0] > 0
        assert prometheus.values("sum(flow_nexus_sandbox_start_seconds_count)")[0] >= 3
        walk.call("POST", f"/v1/trainings/{training_id}/stop")
        walk.until(cluster_id, "stopped")
        until(lambda: not prometheus.values(f"{ACTIVE}{mine}"), "an ended training is still shown")
        assert prometheus.values(f"max_over_time({ACTIVE}{mine}[5m])"), "its history stays"
    finally:
        walk.terminate(cluster_id)
