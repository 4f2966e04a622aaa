"""The chart, rendered with every values file."""

import json
import subprocess
from typing import Any

import pytest

from tests.deploy.helm.cases import REFUSED, VALUES
from tests.deploy.helm.chart import Rendered
from tests.deploy.tools import ROOT, tool

WITHOUT_POLICIES = "without-policies"
_WHERE = {"release": "nexus", "namespace": "ml"}


@pytest.fixture(scope="session")
def answers() -> dict[str, Any]:
    """Return what the tools say of every case. One process asks them about all."""
    values = {**VALUES, **{name: text for name, (text, _) in REFUSED.items()}}
    request = {
        "chart": str(ROOT / "deploy/helm/flow-nexus"),
        "cases": {name: {"values": text, **_WHERE} for name, text in values.items()},
    }
    program = ROOT / "tests/deploy/helm/program.py"
    done = subprocess.run(
        [tool("python"), program], input=json.dumps(request), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(params=VALUES)
def rendered(request: pytest.FixtureRequest, answers: dict[str, Any]) -> Rendered:
    """Return the manifests of each values file."""
    return _rendered(request.param, answers)


@pytest.fixture(params=[name for name in VALUES if name != WITHOUT_POLICIES])
def guarded(request: pytest.FixtureRequest, answers: dict[str, Any]) -> Rendered:
    """Return the manifests of each values file with network policies."""
    return _rendered(request.param, answers)


@pytest.fixture
def unguarded(answers: dict[str, Any]) -> Rendered:
    """Return the manifests without network policies."""
    return _rendered(WITHOUT_POLICIES, answers)


def _rendered(name: str, answers: dict[str, Any]) -> Rendered:
    assert "refused" not in answers[name], answers[name]
    return Rendered(name, answers[name]["manifests"])
