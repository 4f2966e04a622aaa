import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """As workers train: more threads than cores wait for each other."""
    torch.set_num_threads(1)
