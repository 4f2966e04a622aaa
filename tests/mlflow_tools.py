"""MLflow and TensorBoard, which `make mlflow-tools` installs into an environment of their own."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

_BIN = Path(__file__).parents[1] / "build" / "mlflow" / "venv" / "bin"


def program(name: str) -> Path:
    """Return a program of that environment.

    Where it is missing, the test is skipped. With FLOW_NEXUS_MLFLOW=required it fails.
    """
    found = _BIN / name
    if not found.exists():
        assert os.environ.get("FLOW_NEXUS_MLFLOW") != "required", f"missing: {found}"
        pytest.skip("`make mlflow-tools` installs MLflow and TensorBoard")
    return found


@contextmanager
def server(folder: Path, port: int = 0, *arguments: str) -> Iterator[str]:
    """Run an MLflow server that keeps all it has in `folder`. Yield its address.

    `arguments` replace the option that lets clients upload artifacts through the server.
    """
    if not port:
        port = free_port()
    store = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db")
    artifacts = arguments or ("--artifacts-destination", str(folder / "artifacts"))
    command = [
        str(program("mlflow")),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        *store,
        *artifacts,
    ]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("ab") as log:
        # It starts processes of its own. They are one group, so that all of them end.
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 90
        while not _answers(url):
            assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < end, "MLflow did not start"
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False
