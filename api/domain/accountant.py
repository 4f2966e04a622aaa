"""The privacy that DP-SGD spends.

It is the Renyi differential privacy (RDP) of the sampled Gaussian mechanism, composed over steps.
Neighbouring data sets differ by one record, which is present or not. All epsilons are upper
bounds.

Sources:
    RDP: Mironov, CSF 2017, arXiv:1702.07476.
    Gaussian mechanism on a Poisson sample: Mironov, Talwar and Zhang, 2019, arXiv:1908.10530,
    section 3.3.
    From RDP to (epsilon, delta): Balle et al., AISTATS 2020, arXiv:1905.09982, theorem 21.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import erfc, exp, inf, lgamma, log, log1p, pi, sqrt

ORDERS: tuple[float, ...] = (*(1 + number / 4 for number in range(1, 20)), *range(6, 65), 80, 96, 128, 192, 256, 512)
# The series ends at terms whose logarithm is this far below the largest one. They do not change a
# sum of doubles.
_NEGLIGIBLE = 40.0
_ERFC_UNDERFLOWS = 25.0
_PRECISION = 1e-3
_LARGEST_NOISE = 1e6


@dataclass(frozen=True, slots=True)
class DpSgdSteps:
    """A number of equal steps of DP-SGD.

    Each record joins a step's sample with probability `sampling_rate`. The Gaussian noise has the
    standard deviation `noise_multiplier` times the clipping norm.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int


def epsilon(spent: Iterable[DpSgdSteps], delta: float) -> float:
    """Return the epsilon of all steps together at `delta`.

    It is 0 for no steps, and infinite without noise.
    """
    totals = [0.0] * len(ORDERS)
    for part in spent:
        if part.steps:
            totals = [
                total + part.steps * rdp_of_step
                for total, rdp_of_step in zip(totals, _curve(part.sampling_rate, part.noise_multiplier), strict=True)
            ]
    if not any(totals):
        return 0.0
    epsilons = (
        total + log1p(-1 / order) - (log(delta) + log(order)) / (order - 1) for total, order in zip(totals, ORDERS, strict=True)
    )
    return max(0.0, min(epsilons))


def noise_for(target: float, delta: float, sampling_rate: float, steps: int, spent: Iterable[DpSgdSteps] = ()) -> float | None:
    """Return the smallest noise multiplier that keeps the total epsilon within `target`.

    The total counts the `spent` steps and `steps` more. The result is exact to about 0.1 %.
    Return None if no noise is enough.
    """
    earlier = list(spent)

    def fits(noise: float) -> bool:
        return epsilon([*earlier, DpSgdSteps(sampling_rate, noise, steps)], delta) <= target

    high = 1.0
    while not fits(high):
        high *= 2
        if high > _LARGEST_NOISE:
            return None
    low = high / 2
    while low > 0.01 and fits(low):
        low, high = low / 2, low
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@lru_cache(maxsize=256)
def _curve(rate: float, noise: float) -> tuple[float, ...]:
    return tuple(rdp(rate, noise, order) for order in ORDERS)


def rdp(rate: float, noise: float, order: float) -> float:
    """Return the RDP of one step at `order` > 1."""
    if rate == 0:
        return 0.0
    if noise == 0:
        return inf
    if rate == 1:
        return order / (2 * noise**2)
    moment = _whole(rate, noise, int(order)) if order == int(order) else _fractional(rate, noise, order)
    return max(0.0, moment) / (order - 1)


def _whole(rate: float, noise: float, order: int) -> float:
    terms = [
        _log_choose(order, k) + k * log(rate) + (order - k) * log1p(-rate) + (k * k - k) / (2 * noise**2)
        for k in range(order + 1)
    ]
    largest = max(terms)
    return largest + log(sum(exp(term - largest) for term in terms))


def _fractional(rate: float, noise: float, order: float) -> float:
    middle = noise**2 * log(1 / rate - 1) + 0.5
    terms: list[tuple[float, float]] = []
    sign, choose, k, largest = 1.0, 0.0, 0, -inf
    while True:
        rest = order - k
        left = k * log(rate) + rest * log1p(-rate) + (k * k - k) / (2 * noise**2)
        left += _log_half_erfc((k - middle) / (sqrt(2) * noise))
        right = rest * log(rate) + k * log1p(-rate) + (rest * rest - rest) / (2 * noise**2)
        right += _log_half_erfc((middle - rest) / (sqrt(2) * noise))
        terms += [(sign, choose + left), (sign, choose + right)]
        newest = choose + max(left, right)
        largest = max(largest, newest)
        if k > order and newest < largest - _NEGLIGIBLE:
            return largest + log(sum(sign * exp(term - largest) for sign, term in terms))
        # C(order, k + 1) = C(order, k) (order - k) / (k + 1). Its sign alternates once k exceeds
        # the order.
        sign = sign if rest > 0 else -sign
        choose += log(abs(rest)) - log(k + 1)
        k += 1


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _log_half_erfc(x: float) -> float:
    if x < _ERFC_UNDERFLOWS:
        return log(erfc(x) / 2)
    return -x * x - log(2 * x * sqrt(pi)) + log1p(-1 / (2 * x * x) + 3 / (4 * x**4))
