"""Cost of sandboxes: the seconds of a sandbox's life times the price of its role."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

_CENT_FRACTION = Decimal("0.000001")


def sandbox_cost(started_at: datetime | None, ended_at: datetime | None, now: datetime, per_minute: Decimal) -> Decimal:
    """Return the USD of a sandbox from its start to its end, or to `now` while it runs. 0 before
    its start.
    """
    if started_at is None:
        return Decimal(0)
    return overlap_cost(started_at, ended_at or now, started_at, now, per_minute)


def overlap_cost(started_at: datetime, ended_at: datetime, since: datetime, until: datetime, per_minute: Decimal) -> Decimal:
    """Return the USD of the part of a sandbox's life within [since, until]."""
    seconds = (min(ended_at, until) - max(started_at, since)).total_seconds()
    return (Decimal(str(max(0.0, seconds))) / 60 * per_minute).quantize(_CENT_FRACTION, ROUND_HALF_UP)


def per_epoch(total: Decimal, epochs: int) -> Decimal | None:
    return (total / epochs).quantize(_CENT_FRACTION, ROUND_HALF_UP) if epochs else None


def per_accuracy_point(total: Decimal, accuracy: float | None) -> Decimal | None:
    """Return the USD per percentage point of validation accuracy.

    None without a measured accuracy.
    """
    if not accuracy:
        return None
    return (total / Decimal(str(accuracy * 100))).quantize(_CENT_FRACTION, ROUND_HALF_UP)
