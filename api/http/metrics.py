"""Prometheus metrics of the rows, counted at each scrape. They hold no ids, names or secrets."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.runtime.listener import Listener
from api.runtime.transactions import UseCaseRunner
from api.store.database import UnitOfWork
from api.store.kinds import KINDS
from api.store.tables import ModelRow

# Exported models have no metric.
_COUNTED = tuple(kind for kind in KINDS if kind.table is not ModelRow)


class RowCollector(Collector):
    """Collect rows by status, the delay of due rows, the database's state and the held requests."""

    def __init__(self, use_cases: UseCaseRunner, listener: Listener) -> None:
        self._use_cases = use_cases
        self._listener = listener

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        held = GaugeMetricFamily("flow_nexus_held_requests", "Answers and event streams that wait for something to happen")
        held.add_metric([], self._listener.waiting)
        up = GaugeMetricFamily("flow_nexus_database_up", "1 when the database answered this scrape")
        families: list[GaugeMetricFamily] = []
        try:
            families = self._use_cases.run_blocking(_counted)
            up.add_metric([], 1)
        except SQLAlchemyError:
            up.add_metric([], 0)
        return [held, up, *families]


def _counted(uow: UnitOfWork) -> list[GaugeMetricFamily]:
    families = []
    for kind in _COUNTED:
        family = GaugeMetricFamily(f"flow_nexus_{kind.plural}", f"{kind.plural.capitalize()} by status", labels=["status"])
        for status, count in uow.session.execute(select(kind.table.status, func.count()).group_by(kind.table.status)):
            family.add_metric([status], count)
        families.append(family)
    late = GaugeMetricFamily("flow_nexus_due_seconds", "Seconds that the oldest due row has waited", labels=["noun"])
    for kind in _COUNTED:
        oldest = select(func.extract("epoch", func.clock_timestamp() - func.min(kind.table.due_at)))
        late.add_metric([kind.plural], max(0.0, float(uow.session.scalar(oldest) or 0)))
    return [*families, late]


def make_registry() -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
