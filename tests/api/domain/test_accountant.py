"""The privacy accountant, compared with the figures of two others.

These are Opacus 1.6 (RDP) and dp-accounting 0.6 (privacy loss distributions).
"""

from math import inf

import pytest

from api.domain.accountant import DpSgdSteps, epsilon, noise_for, rdp


@pytest.mark.parametrize(
    ("rate", "noise", "order", "expected"),
    [
        (0.01, 1.1, 1.5, 9.554528557684942e-05),
        (0.01, 1.1, 10.75, 0.0011712929966003205),
        (0.01, 1.1, 64, 21.768012866287314),
        (0.04, 0.7, 2.5, 0.0169047638069207),
        (0.5, 2.0, 4, 0.1573682031940248),
        (0.5, 2.0, 10.75, 0.6844105485693804),
        (1.0, 5.0, 32, 0.64),
        (32 / 2500, 0.6, 1.25, 0.0011967299996141672),
    ],
)
def test_renyi_divergence_of_one_step_is_what_opacus_computes(rate: float, noise: float, order: float, expected: float) -> None:
    assert rdp(rate, noise, order) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "opacus", "exact"),
    [
        (0.01, 1.1, 10_000, 1e-5, 5.63199236854841, 5.192620123878041),
        # 60 epochs of MNIST in batches of 256.
        (256 / 60_000, 1.1, 14_040, 1e-5, 2.594363354953112, 2.3796435199377344),
        (0.04, 0.7, 500, 1e-4, 12.7943516741075, 11.252235906085135),
        (0.5, 2.0, 100, 1e-5, 15.392464192990985, 14.28448205163517),
        (1.0, 5.0, 20, 1e-5, 4.161624306053592, 3.8486103726964815),
        (0.01, 4.0, 10_000, 1e-5, 1.0354900660362476, 0.9469993068930963),
        (32 / 2500, 0.6, 780, 1 / 25_000, 8.803603433762682, 7.482878156946713),
    ],
)
def test_epsilon_is_what_opacus_computes_and_never_below_the_exact_one(
    rate: float, noise: float, steps: int, delta: float, opacus: float, exact: float
) -> None:
    found = epsilon([DpSgdSteps(rate, noise, steps)], delta)
    assert found == pytest.approx(opacus, rel=2e-3)
    assert found > exact


def test_a_full_batch_is_the_gaussian_mechanism() -> None:
    assert [rdp(1.0, 2.0, order) for order in (2, 8)] == [2 / 8, 8 / 8]


def test_parts_compose_to_the_whole_and_nothing_costs_nothing() -> None:
    whole = epsilon([DpSgdSteps(0.02, 1.0, 300)], 1e-5)
    assert epsilon([DpSgdSteps(0.02, 1.0, 100), DpSgdSteps(0.02, 1.0, 200)], 1e-5) == pytest.approx(whole)
    assert epsilon([], 1e-5) == epsilon([DpSgdSteps(0.02, 1.0, 0)], 1e-5) == 0
    assert epsilon([DpSgdSteps(0.02, 0.0, 1)], 1e-5) == inf


@pytest.mark.parametrize("target", [0.5, 3.0, 8.0])
def test_the_noise_found_meets_the_target_and_hardly_more(target: float) -> None:
    noise = noise_for(target, 1e-5, 0.0128, 780)
    assert noise is not None
    assert 0.98 * target < epsilon([DpSgdSteps(0.0128, noise, 780)], 1e-5) <= target


def test_what_is_spent_leaves_less_for_the_rest() -> None:
    fresh = noise_for(3.0, 1e-5, 0.02, 100)
    spent = [DpSgdSteps(0.02, 1.0, 100)]
    later = noise_for(3.0, 1e-5, 0.02, 100, spent)
    assert fresh is not None
    assert later is not None
    assert later > fresh
    assert epsilon([*spent, DpSgdSteps(0.02, later, 100)], 1e-5) <= 3.0
    assert noise_for(1.0, 1e-5, 0.02, 100, [DpSgdSteps(0.5, 0.5, 100)]) is None
