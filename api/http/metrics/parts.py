"""Metrics of what the service depends on: its parts, and the disk of its folders."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from api.http.readiness import ReadinessChecker


class PartCollector(Collector):
    """Whether each part worked at the last check, and the free space of the folders."""

    def __init__(self, readiness: ReadinessChecker, folders: Mapping[str, Path]) -> None:
        self._readiness = readiness
        self._folders = folders

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return [self._parts(), *self._disks()]

    def _parts(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("flow_nexus_part_up", "1 when a part of the service works", labels=["part"])
        found = self._readiness.last
        if found is not None:
            for part in ("database", "broker", "steps", "sandboxes"):
                family.add_metric([part], getattr(found, part).ok)
        return family

    def _disks(self) -> list[GaugeMetricFamily]:
        free = GaugeMetricFamily("flow_nexus_disk_free_bytes", "Free bytes where a folder lies", labels=["folder"])
        size = GaugeMetricFamily("flow_nexus_disk_size_bytes", "All bytes of the disk where a folder lies", labels=["folder"])
        for name, folder in self._folders.items():
            try:
                usage = shutil.disk_usage(folder)
            except OSError:  # The folder is made with the first model.
                continue
            free.add_metric([name], usage.free)
            size.add_metric([name], usage.total)
        return [free, size]
