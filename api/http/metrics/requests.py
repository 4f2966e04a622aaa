"""Metrics of the requests, by operation. The number of series is bounded."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Counts of requests, and the seconds until their responses began.

    The operation is its id in openapi.json, and `none` where no operation has the path. HEAD counts
    as GET. A method that HTTP does not know counts as `other`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "flow_nexus_http_requests",
            "Requests by operation, method and status",
            ["operation", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "flow_nexus_http_request_duration_seconds",
            "Seconds until the response began, by operation, method and class of the status",
            ["operation", "method", "status_class"],
            registry=registry,
            buckets=_BUCKETS,
        )

    def count(self, operation: str, method: str, status: int, seconds: float) -> None:
        method = method if method in _METHODS else "other"
        self._requests.labels(operation, method, str(status)).inc()
        self._seconds.labels(operation, method, f"{status // 100}xx").observe(seconds)
