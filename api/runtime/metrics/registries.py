"""Which metrics one process counts, and which ones `/metrics` shows.

With several processes (`FOLDER` is set), prometheus_client keeps the counts in files, and each
process shows the sums.
"""

import os
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

from api.runtime.metrics.folder import FOLDER


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
        # They would double the series, and several processes have none.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        if FOLDER in os.environ:
            shown = CollectorRegistry(auto_describe=False)
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
            return cls(CollectorRegistry(auto_describe=False), shown)
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return cls(registry, registry)
