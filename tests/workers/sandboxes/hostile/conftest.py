from collections.abc import Iterator

import pytest

from .attacks import AttackSetup, attack_setup


@pytest.fixture(scope="module", params=["own", "ordinary"])
def limit_attack(request: pytest.FixtureRequest) -> Iterator[AttackSetup]:
    """A setup for attacks on limits. Only for root, cgroups enforce them."""
    with attack_setup(request.param) as attack:
        yield attack


@pytest.fixture(scope="module", params=["own", "ordinary", "ordinary-namespaces"])
def escape_attack(request: pytest.FixtureRequest) -> Iterator[AttackSetup]:
    """A setup for attempts to get out, for each way to build a sandbox."""
    with attack_setup(request.param) as attack:
        yield attack
