"""Prometheus metrics of the requests and of the rows. They hold no ids, names or secrets.

Rows are counted at each scrape. Requests are counted by each process. With several processes
(`FOLDER` is set), prometheus_client keeps the counts in files, and each process shows the sums.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.http.metrics_folder import FOLDER
from api.runtime.transactions import UseCaseRunner
from api.store.database import UnitOfWork
from api.store.kinds import KINDS
from api.store.tables import ModelRow

# Exported models have no metric.
_COUNTED = tuple(kind for kind in KINDS if kind.table is not ModelRow)


class RowCollector(Collector):
    """Collect rows by status, the delay of due rows, and the database's state."""

    def __init__(self, use_cases: UseCaseRunner) -> None:
        self._use_cases = use_cases

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        up = GaugeMetricFamily("flow_nexus_database_up", "1 when the database answered this scrape")
        families: list[GaugeMetricFamily] = []
        try:
            families = self._use_cases.run_blocking(_counted)
            up.add_metric([], 1)
        except SQLAlchemyError:
            up.add_metric([], 0)
        return [up, *families]


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


@dataclass(frozen=True, slots=True)
class Registries:
    """`own` has what this process counts. `shown` is what `/metrics` shows.

    They are the same one, unless the service has several processes. Then `shown` has the sums of
    all processes, and no figures of a single process.
    """

    own: CollectorRegistry
    shown: CollectorRegistry

    @classmethod
    def make(cls) -> "Registries":
        if FOLDER in os.environ:
            shown = CollectorRegistry(auto_describe=False)
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
            return cls(CollectorRegistry(auto_describe=False), shown)
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return cls(registry, registry)

    def held_requests(self) -> Gauge:
        return Gauge(
            "flow_nexus_held_requests",
            "Answers and event streams that wait for something to happen",
            registry=self.own,
            multiprocess_mode="livesum",
        )
