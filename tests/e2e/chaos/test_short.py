"""The short form of `make chaos`: one training that one thing after another happens to, other things in each run."""

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.chaos.faults import FAULTS
from tests.e2e.chaos.rig import Rig
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
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc"),
]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """On a stack of its own: other tests need theirs undisturbed. Not below pytest's own folder, which each start of a pytest
    closes to root's Postgres, so that one that was killed could not come back."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, EmbeddedStack(Path(folder) / "home") as stack:
        yield Rig(stack, EPOCHS, 3, SAMPLES)


def test_whatever_is_killed_the_training_finishes_and_nothing_is_left(rig: Rig) -> None:
    stray = _sandbox_of_nobody(rig.stack)
    began = time.monotonic()
    undisturbed = rig.run((), random.Random(0))
    assert undisturbed.accuracy > 0.95
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    order = random.Random(seed)
    last = [FAULTS[name] for name in SHORT if FAULTS[name].rounds_go_on]
    others = [FAULTS[name] for name in SHORT if not FAULTS[name].rounds_go_on]
    disturbed = rig.run([*order.sample(others, TOGETHER - 1), order.choice(last)], order)
    print(*disturbed.hits, sep="\n")
    rig.compare(disturbed, undisturbed)
    while stray in _all(rig.stack):
        assert time.monotonic() - began < 60, "the sweep did not find the orphan within a minute"
        time.sleep(0.5)
    rig.terminate()
    assert _all(rig.stack) == []


def _sandbox_of_nobody(stack: EmbeddedStack) -> str:
    """A sandbox of this deployment that no row knows: a creation whose answer never arrived."""
    mark = metadata_of(stack.folder.secrets().secret_key)
    made = Sandbox.create("flow-nexus-python", timeout=600, metadata=mark, **provider(stack))
    return str(made.sandbox_id)


def _all(stack: EmbeddedStack) -> list[str]:
    pages = Sandbox.list(**provider(stack))
    found: list[str] = []
    while pages.has_next:
        found += [info.sandbox_id for info in pages.next_items()]
    return found
