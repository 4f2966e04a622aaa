"""Spans, as a collector gets them."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from opentelemetry.trace import SpanKind

from api.runtime import extras, tracing
from tests.otlp_receiver import Receiver, receiving

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        tracing.set_up("tests", receiver.url)
        try:
            yield receiver
        finally:
            tracing.shut_down()


def test_without_a_collector_a_span_is_none_at_all() -> None:
    tracing.set_up("tests", None)
    with tracing.span("request", SpanKind.SERVER, fields={"node_id": "n"}) as span, tracing.originating():
        tracing.annotate({"cluster_id": "c"})
        assert not span.is_recording()
        assert (tracing.header(), tracing.origin(), tracing.current_ids()) == (None, None, {})


def test_the_work_of_a_step_belongs_to_its_request(collector: Receiver) -> None:
    with tracing.span("request", SpanKind.SERVER, CALLER), tracing.originating():
        carried = tracing.origin()
        ids = tracing.current_ids()
    assert tracing.origin() is None
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    with tracing.span("step", SpanKind.CONSUMER, carried), tracing.originating(carried):
        with tracing.span("call", SpanKind.CLIENT, fields={"node_id": "n"}):
            tracing.annotate({"cluster_id": "c"})
        tracing.measured("round", begin, end, {"round": 1})
        assert tracing.origin() == carried, "the next step has the same parent"
    tracing.shut_down()
    spans = {span.name: span for span in collector.spans}
    assert {span.trace_id for span in spans.values()} == {ids["trace_id"]} == {CALLER.split("-")[1]}
    parents = {name: span.parent_id for name, span in spans.items()}
    request, step = spans["request"].span_id, spans["step"].span_id
    assert parents == {"request": CALLER.split("-")[2], "step": request, "call": step, "round": request}
    assert spans["call"].attributes == {"flow_nexus.node_id": "n", "flow_nexus.cluster_id": "c"}
    assert (spans["round"].begin, spans["round"].end) == (int(begin.timestamp()) * 10**9, int(end.timestamp()) * 10**9)


def test_an_error_is_told_by_its_type_only(collector: Receiver) -> None:
    with pytest.raises(ValueError, match="text"), tracing.span("request"):
        raise ValueError("a customer's text")
    tracing.shut_down()
    (span,) = collector.spans
    assert span.attributes == {"error.type": "ValueError"}
    assert b"customer" not in collector.bodies[0]


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    advice = extras.missing({"FLOW_NEXUS_OTLP_ENDPOINT": "http://collector:4318"})
    assert advice is not None
    assert advice.endswith("install flow-nexus[otel]")
