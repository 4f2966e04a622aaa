"""The cost of nodes, with all sandboxes that each node has had."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from api.domain import cost
from api.store.documents import FormerSandbox


class BilledNode(Protocol):
    """The sandboxes that a node has had, and their price."""

    @property
    def former_sandboxes(self) -> Sequence[FormerSandbox]: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def price_per_minute(self) -> Decimal: ...


def total(nodes: Iterable[BilledNode], now: datetime) -> Decimal:
    """Return the cost of the nodes' sandboxes so far, in USD."""
    return sum(
        (cost.sandbox_cost(start, end, now, node.price_per_minute) for node in nodes for start, end in _lifetimes(node)),
        Decimal(0),
    )


def within(nodes: Iterable[BilledNode], since: datetime, until: datetime) -> Decimal:
    """Return the cost of the nodes' sandboxes between two times, in USD."""
    return sum(
        (
            cost.overlap_cost(start, end or until, since, until, node.price_per_minute)
            for node in nodes
            for start, end in _lifetimes(node)
        ),
        Decimal(0),
    )


def _lifetimes(node: BilledNode) -> Iterator[tuple[datetime, datetime | None]]:
    for former in node.former_sandboxes:
        yield datetime.fromisoformat(former["started_at"]), datetime.fromisoformat(former["ended_at"])
    if node.started_at is not None:
        yield node.started_at, node.ended_at
