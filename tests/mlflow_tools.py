"""MLflow and TensorBoard, which `make mlflow-tools` installs into an environment of their own."""

import os
from pathlib import Path

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
