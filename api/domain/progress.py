"""Progress of a training: epochs and time left, all from measured rounds."""

from collections.abc import Sequence
from itertools import pairwise
from math import cos, pi
from statistics import fmean

RECENT_ROUNDS = 5


def total_rounds(total_epochs: int, local_epochs: int) -> int:
    return -(-total_epochs // local_epochs)


def learning_rate(initial: float, number: int, rounds: int, schedule: str) -> float:
    """Return the learning rate of round `number` (from 1).

    The schedule is `constant`, or `cosine`: from `initial` to near 0 in the last round. FedAvg with
    a constant rate stalls near the optimum. With a falling rate it converges.

    Sources: Li et al., "On the Convergence of FedAvg on Non-IID Data", ICLR 2020, arXiv:1907.02189.
    Cosine: Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983.
    """
    if schedule == "constant":
        return initial
    return initial * 0.5 * (1 + cos(pi * (number - 1) / rounds))


def stages(total_epochs: int, extended_after: Sequence[int]) -> list[int]:
    """Return the epochs of each stage. An extension begins a stage, with a round of its own."""
    return [end - start for start, end in pairwise((0, *extended_after, total_epochs))]


def rounds_of(stage_epochs: Sequence[int], local_epochs: int) -> int:
    """Return the number of rounds of some stages."""
    return sum(total_rounds(epochs, local_epochs) for epochs in stage_epochs)


def epochs_after(completed_rounds: int, stage_epochs: Sequence[int], local_epochs: int) -> int:
    """Return the epochs that so many rounds have trained, over all stages."""
    trained = 0
    for epochs in stage_epochs:
        rounds = min(completed_rounds, total_rounds(epochs, local_epochs))
        trained += epoch(rounds, epochs, local_epochs)
        completed_rounds -= rounds
    return trained


def epoch(completed_rounds: int, total_epochs: int, local_epochs: int) -> int:
    """Return completed rounds times local epochs, at most `total_epochs`."""
    return min(completed_rounds * local_epochs, total_epochs)


def remaining_seconds(recent_round_seconds: Sequence[float], rounds_left: int) -> float | None:
    """Return rounds left times the mean seconds of the last five rounds.

    None before the first round is done.
    """
    if rounds_left <= 0:
        return 0.0
    if not recent_round_seconds:
        return None
    return fmean(recent_round_seconds[-RECENT_ROUNDS:]) * rounds_left


def compression_ratio(bytes_received: int | None, updates: int, parameters: int | None) -> float | None:
    """Return received bytes divided by the bytes of as many whole fp32 models.

    None before the first update.
    """
    if not bytes_received or not updates or not parameters:
        return None
    return bytes_received / (updates * parameters * 4)


def weighted_mean(pairs: Sequence[tuple[float | None, int | None]]) -> float | None:
    """Return the mean of the values, weighted by sample counts. None without a measured value."""
    known = [(value, weight) for value, weight in pairs if value is not None and weight]
    weight_sum = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weight_sum if weight_sum else None


def duration_text(seconds: float | None) -> str | None:
    """Return seconds as text: `45s`, `8m 30s`, `2h 5m`."""
    if seconds is None:
        return None
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"
