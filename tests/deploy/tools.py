"""The tools of `make deploy-tools`, in an environment of their own."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BINARIES = ROOT / "build/deploy/venv/bin"


def tool(name: str) -> Path:
    """Return a program of the environment. Skip the test without it.

    With FLOW_NEXUS_DEPLOY=required, the test fails instead.
    """
    path = _BINARIES / name
    if not path.exists():
        assert os.environ.get("FLOW_NEXUS_DEPLOY") != "required", f"missing: {path}"
        pytest.skip("`make deploy-tools` installs what this test needs")
    return path
