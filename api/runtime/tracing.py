"""Traces with OpenTelemetry: a span for each request, each step of a row and each call of an agent.

Without `set_up`, spans cost next to nothing and go nowhere. A span has ids, names and counts. It
has the type of an error, never its message.

The origin is the span that all later work of a request belongs to. Steps pass it on. So the rounds
of a training are children of its request and not of each other.

The provider is not the global one of OpenTelemetry. Libraries that look for that would send spans
of their own, with whole addresses.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)
HEADER = "traceparent"
"""The header of W3C Trace Context."""
# The standard variables that name a collector.
_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORT_TIMEOUT_S = 5
_PROPAGATOR = TraceContextTextMapPropagator()
_providers: "list[TracerProvider]" = []
_origin: ContextVar[str | None] = ContextVar("trace_origin", default=None)


def set_up(service: str, endpoint: str | None) -> None:
    """Send the spans of this process to the collector at `endpoint`, as the service `service`.

    Without `endpoint`, the standard variables may name a collector. Without both, nothing is sent.
    """
    if endpoint is None and not any(os.environ.get(name) for name in _STANDARD):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        # The standard variables may be meant for other programs.
        log.warning("no traces are sent: the extra flow-nexus[otel] is not installed")
        return
    address = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address, timeout=_EXPORT_TIMEOUT_S)))
    _providers[:] = [provider]


def shut_down() -> None:
    """Send the spans that wait, if `set_up` sends any."""
    while _providers:
        _providers.pop().shutdown()


@contextmanager
def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, parent: str | None = None, fields: Mapping[str, str] | None = None
) -> Iterator[Span]:
    """Record the block as a span. `parent` is a traceparent; by default, the current span is it."""
    with _tracer().start_as_current_span(
        name, _context(parent), kind, _named(fields or {}), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise


@contextmanager
def originating(origin: str | None = None) -> Iterator[None]:
    """Make `origin` the origin of the work in the block. By default, the current span is it."""
    token = _origin.set(origin or header())
    try:
        yield
    finally:
        _origin.reset(token)


def measured(name: str, begin: datetime, end: datetime, fields: Mapping[str, str | float]) -> None:
    """Record a span below the origin that took place between two times of the database's clock."""
    span = _tracer().start_span(name, _context(_origin.get()), attributes=_named(fields), start_time=_nanoseconds(begin))
    span.end(_nanoseconds(end))


def annotate(fields: Mapping[str, str]) -> None:
    """Add ids to the current span."""
    trace.get_current_span().set_attributes(_named(fields))


def origin() -> str | None:
    """Return the origin of the current work, as a traceparent."""
    return _origin.get()


def header() -> str | None:
    """Return the current span as a traceparent."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER)


def current_ids() -> dict[str, str]:
    """Return the ids of the current trace and span, for the log. Empty outside a span."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}


def _tracer() -> trace.Tracer:
    return _providers[0].get_tracer("flow_nexus") if _providers else trace.NoOpTracer()


def _context(parent: str | None) -> Context | None:
    return None if parent is None else _PROPAGATOR.extract({HEADER: parent})


def _named(fields: Mapping[str, str | float]) -> dict[str, str | float]:
    return {f"flow_nexus.{name}": value for name, value in fields.items()}


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000_000)
