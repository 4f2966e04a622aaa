from collections.abc import Iterator

import pytest

from .attacks import Ground, ground


@pytest.fixture(scope="module", params=["own", "ordinary"])
def field(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Where limits are tried: what holds them differs between root, who has cgroups, and an ordinary user."""
    with ground(request.param) as made:
        yield made


@pytest.fixture(scope="module", params=["own", "ordinary", "ordinary-namespaces"])
def wall(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Where ways out are tried: by every way that a sandbox can be built."""
    with ground(request.param) as made:
        yield made
