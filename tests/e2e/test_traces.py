"""The traces of the running service, which the shared stack sends to a collector of the tests."""

import json

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.walk import Trained
from tests.otlp_receiver import ReceivedSpan, Receiver


def test_one_trace_leads_from_the_request_over_the_steps_to_the_agents_rounds(trained: Trained, collector: Receiver) -> None:
    def of_training(span: ReceivedSpan) -> bool:
        return span.attributes.get("flow_nexus.training_id") == trained.training_id

    rounds = collector.until(lambda span: span.name == "round" and of_training(span), count=4)
    assert len({span.trace_id for span in rounds}) == 1
    trace = [span for span in [*collector.spans] if span.trace_id == rounds[0].trace_id]
    (request,) = [span for span in trace if not span.parent_id]
    assert (request.service, request.name, request.kind) == ("flow-nexus-api", "start_training", Span.SPAN_KIND_SERVER)
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["http.route"] == "/v1/clusters/{cluster_id}/trainings"
    assert request.attributes["flow_nexus.cluster_id"] == trained.cluster_id
    assert request.attributes["flow_nexus.request_id"].startswith("req_")

    steps = [span for span in trace if span.name == "flow_nexus.trainings.advance"]
    assert len(steps) >= 4
    assert {(span.service, span.parent_id) for span in steps} == {("flow-nexus-worker", request.span_id)}
    assert {span.attributes["flow_nexus.request_id"] for span in steps} == {request.attributes["flow_nexus.request_id"]}
    calls = [span for span in trace if span.name == "agent POST /rounds/train"]
    assert {span.attributes["flow_nexus.node_id"] for span in calls} == set(trained.workers)
    assert {span.parent_id for span in calls} <= {span.span_id for span in steps}
    # A step cancels calls that it needs no longer. They have no status.
    statuses = {span.attributes.get("http.response.status_code") for span in calls}
    assert {200} <= statuses <= {200, None}
    assert [span.attributes["flow_nexus.round"] for span in rounds] == [1, 2, 3, 4]
    assert {(span.parent_id, span.attributes["flow_nexus.accepted"]) for span in rounds} == {(request.span_id, 2)}
    assert all(span.end > span.begin for span in rounds)

    keys = {name for span in [*collector.spans] for name in span.attributes}
    assert not [name for name in keys if name.startswith(("url", "exception"))], "no library sends spans of its own"
    for node_id in trained.workers:
        lines = trained.walk.call("GET", f"/v1/sandboxes/{node_id}/logs", params={"lines": 1000})["lines"]
        events = [json.loads(line["line"]) for line in lines if '"event": "round"' in line["line"]]
        assert [(event["round"], event["trace_id"]) for event in events] == [(n, request.trace_id) for n in range(1, 5)]


def test_a_request_continues_the_trace_of_its_caller(trained: Trained, collector: Receiver) -> None:
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace_id}-{parent_id}-01"}
    trained.walk.call("GET", f"/v1/trainings/{trained.training_id}", headers=headers)
    (span,) = collector.until(lambda span: span.trace_id == trace_id)
    assert (span.name, span.parent_id) == ("get_training", parent_id)
