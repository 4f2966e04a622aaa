"""Metrics that are read from the rows at each scrape, in one transaction."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.http.metrics import trainings
from api.runtime.transactions import UseCaseRunner
from api.services import monitoring
from api.store.database import UnitOfWork


class RowCollector(Collector):
    """Rows by status, the delay of due rows, and the active trainings if `per_training`."""

    def __init__(self, use_cases: UseCaseRunner, *, per_training: bool) -> None:
        self._use_cases = use_cases
        self._per_training = per_training

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        up = GaugeMetricFamily("flow_nexus_database_up", "1 when the database answered this scrape")
        families: list[GaugeMetricFamily] = []
        try:
            families = self._use_cases.run_blocking(self._read)
            up.add_metric([], 1)
        except SQLAlchemyError:
            up.add_metric([], 0)
        return [up, *families]

    def _read(self, uow: UnitOfWork) -> list[GaugeMetricFamily]:
        families = []
        for noun, counts in monitoring.by_status(uow.session).items():
            family = GaugeMetricFamily(f"flow_nexus_{noun}", f"{noun.capitalize()} by status", labels=["status"])
            for status, count in counts.items():
                family.add_metric([status], count)
            families.append(family)
        late = GaugeMetricFamily(
            "flow_nexus_due_seconds", "Seconds that the oldest due row has waited for its step", labels=["noun"]
        )
        for noun, seconds in monitoring.due_seconds(uow.session).items():
            late.add_metric([noun], seconds)
        families.append(late)
        if self._per_training:
            families += trainings.families(monitoring.active_trainings(uow.session))
        return families
