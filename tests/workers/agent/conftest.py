from collections.abc import Iterator

import pytest
import torch

from tests.workers.agent.agents import Federation, federation


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Workers train with so many threads. More threads than cores would wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def two() -> Iterator[Federation]:
    with federation(2) as agents:
        yield agents
