"""Memory pressure, provoked by a real limit on a process's memory."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.workers.agent.short_of_memory import LARGE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts private memory on Linux alone")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("memory")
    command = [sys.executable, "-m", "tests.workers.agent.short_of_memory", str(folder)]
    # RLIMIT_DATA also counts free memory that glibc keeps. This setting keeps no large blocks.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: dict[str, Any] = json.loads(done.stdout)
    return outcomes


def test_from_0_6_a_batch_that_does_not_fit_is_halved_until_it_does(found: dict[str, Any]) -> None:
    assert "code" not in found["failing_0.6"], found["failing_0.6"]
    decisions = found["failing_0.6"]["decisions"]
    for number, (action, reason) in enumerate(decisions, start=1):
        assert action == "halve_batch"
        assert reason.endswith(f"; trying again with batches of {LARGE >> number}")
    assert decisions
    assert found["failing_0.6"]["loss"] < 2


def test_below_0_6_a_batch_that_does_not_fit_fails_the_round_and_says_so(found: dict[str, Any]) -> None:
    assert found["failing_0.59"]["code"] == "out_of_memory"
    assert found["failing_0.59"]["message"].endswith(f"batches of {LARGE} are too large")


def test_from_0_6_memory_that_is_nearly_used_up_halves_the_batch_before_the_kernel_ends_the_agent(
    found: dict[str, Any],
) -> None:
    ((action, reason),) = found["nearly_full_0.6"]["decisions"]
    assert action == "halve_batch"
    assert "% of the sandbox's memory was in use; trying again with batches of 32" in reason


def test_below_0_6_nobody_looks_how_much_memory_is_left(found: dict[str, Any]) -> None:
    assert found["nearly_full_0.59"]["decisions"] == []


def test_too_little_memory_for_the_model_is_a_reason_to_decline(found: dict[str, Any]) -> None:
    assert "MiB of memory, and " in found["declined"]
