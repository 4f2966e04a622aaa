"""The short form of `make chaos`: one training with five faults, chosen at random in each run."""

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.chaos.chaos_cluster import ChaosCluster
from tests.e2e.chaos.faults import FAULTS
from tests.e2e.provider import provider
from workers.steps.shared.deployment import metadata_of

EPOCHS = 15
SAMPLES = 120
TOGETHER = 5
SHORT = (
    "SIGKILL api",
    "SIGKILL worker",
    "SIGKILL redis",
    "SIGKILL postgres",
    "SIGKILL sandboxes",
    "SIGKILL agent of the worker",
    "sandbox of the worker ended",
    "sandbox of the aggregator ended",
)
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ChaosCluster]:
    """Use a separate stack, because other tests need theirs undisturbed.

    Its folder is not below pytest's own. Each start of pytest closes that one to root's Postgres.
    A killed Postgres could then not restart.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, EmbeddedStack(Path(folder) / "home") as stack:
        yield ChaosCluster(stack, EPOCHS, 3, SAMPLES)


def test_whatever_is_killed_the_training_finishes_and_nothing_is_left(cluster: ChaosCluster) -> None:
    orphan = _start_orphan_sandbox(cluster.stack)
    began = time.monotonic()
    undisturbed = cluster.run((), random.Random(0))
    assert undisturbed.accuracy > 0.95
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    order = random.Random(seed)
    last = [FAULTS[name] for name in SHORT if FAULTS[name].rounds_go_on]
    others = [FAULTS[name] for name in SHORT if not FAULTS[name].rounds_go_on]
    disturbed = cluster.run([*order.sample(others, TOGETHER - 1), order.choice(last)], order)
    print(*disturbed.fault_results, sep="\n")
    cluster.compare(disturbed, undisturbed)
    while orphan in _all_sandboxes(cluster.stack):
        assert time.monotonic() - began < 60, "the sweep did not find the orphan within a minute"
        time.sleep(0.5)
    cluster.terminate()
    assert _all_sandboxes(cluster.stack) == []


def _start_orphan_sandbox(stack: EmbeddedStack) -> str:
    """Start a sandbox of this deployment without a row, as if the creation's answer was lost."""
    mark = metadata_of(stack.folder.secrets().secret_key)
    sandbox = Sandbox.create("flow-nexus-python", timeout=600, metadata=mark, **provider(stack))
    return str(sandbox.sandbox_id)


def _all_sandboxes(stack: EmbeddedStack) -> list[str]:
    pages = Sandbox.list(**provider(stack))
    sandbox_ids: list[str] = []
    while pages.has_next:
        sandbox_ids += [info.sandbox_id for info in pages.next_items()]
    return sandbox_ids
