"""A setting that needs a package says at the start that it is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.embedded.errors import StackError
from api.embedded.stack import EmbeddedStack
from api.runtime import extras

SETTING = "FLOW_NEXUS_MLFLOW_TRACKING_URI"
ADVICE = f"{SETTING} is set, and the package mlflow is not installed: install flow-nexus[mlflow]"
# A Celery worker of a Python without the package.
WORKER = """
import sys
sys.modules["mlflow"] = None
sys.argv = ["celery", "-q", "-A", "workers.app", "worker", "-P", "threads", "-c", "1"]
from celery.__main__ import main
main()
"""


@pytest.mark.parametrize("environment", [{}, {SETTING: "null"}, {SETTING: "http://mlflow:5000"}])
def test_nothing_is_missing_without_the_setting_or_with_the_package(environment: dict[str, str]) -> None:
    assert extras.missing(environment) is None


def test_the_embedded_stack_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv(SETTING, "http://mlflow:5000")
    with pytest.raises(StackError, match="install flow-nexus"), EmbeddedStack(tmp_path / "home"):
        pass


def test_a_celery_worker_refuses_to_start() -> None:
    environment = {
        **os.environ,
        SETTING: "http://mlflow:5000",
        "FLOW_NEXUS_DATABASE_URL": "postgresql+psycopg://unused",
        "FLOW_NEXUS_REDIS_URL": "redis://127.0.0.1:9/0",
        "FLOW_NEXUS_SECRET_KEY": "s" * 32,
        "FLOW_NEXUS_MODELS_DIR": ".",
        "E2B_API_KEY": "unused",
    }
    ran = subprocess.run(
        [sys.executable, "-c", WORKER], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == ADVICE
