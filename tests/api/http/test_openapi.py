"""The OpenAPI document is valid and complete, and it describes what the API serves."""

import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api import openapi_file
from api.main import create_app
from api.openapi_file import OPENAPI_JSON
from api.schemas.examples import EXAMPLES, PROBLEMS
from api.settings import Settings
from tests.api.routes.document import METHODS, example, whole


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = Settings(
        database_url="postgresql+psycopg://", redis_url="redis://", secret_key="0" * 32, models_dir=Path(), E2B_API_KEY=""
    )
    return create_app(settings).openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        item["operationId"]: whole(item)
        for methods in document["paths"].values()
        for verb, item in methods.items()
        if verb in METHODS
    }


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_it_is_a_valid_document(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_the_contracts_map_is_covered(document: dict[str, Any]) -> None:
    served = {f"{verb.upper()} {path}" for path, methods in document["paths"].items() for verb in methods}
    assert served == {
        "GET /v1/sandboxes/{sandbox_id}/files/list",
        "POST /v1/webhooks",
        "GET /v1/webhooks",
        "GET /v1/webhooks/{webhook_id}",
        "PATCH /v1/webhooks/{webhook_id}",
        "DELETE /v1/webhooks/{webhook_id}",
        "POST /v1/webhooks/{webhook_id}/test",
        "GET /v1/webhooks/{webhook_id}/deliveries",
        "GET /v1/webhooks/{webhook_id}/deliveries/{delivery_id}",
        "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
        "POST /v1/clusters",
        "GET /v1/clusters",
        "GET /v1/clusters/{cluster_id}",
        "POST /v1/clusters/{cluster_id}/connect",
        "GET /v1/clusters/{cluster_id}/connections",
        "GET /v1/clusters/{cluster_id}/status",
        "POST /v1/clusters/{cluster_id}/terminate",
        "GET /v1/clusters/{cluster_id}/events",
        "POST /v1/clusters/{cluster_id}/nodes",
        "GET /v1/clusters/{cluster_id}/nodes",
        "GET /v1/nodes/{node_id}",
        "GET /v1/nodes/{node_id}/rounds",
        "DELETE /v1/nodes/{node_id}",
        "POST /v1/nodes/{node_id}/redeploy",
        "POST /v1/clusters/{cluster_id}/trainings",
        "GET /v1/trainings",
        "GET /v1/trainings/{training_id}",
        "GET /v1/trainings/{training_id}/rounds",
        "GET /v1/trainings/{training_id}/curves",
        "GET /v1/trainings/{training_id}/events",
        "POST /v1/trainings/{training_id}/stop",
        "POST /v1/trainings/{training_id}/resume",
        "POST /v1/trainings/{training_id}/exports",
        "POST /v1/clusters/{cluster_id}/searches",
        "GET /v1/searches",
        "GET /v1/searches/{search_id}",
        "POST /v1/searches/{search_id}/stop",
        "POST /v1/clusters/{cluster_id}/predictions",
        "GET /v1/predictions/{prediction_id}",
        "GET /v1/predictions/{prediction_id}/texts",
        "POST /v1/predictions/{prediction_id}/cancel",
        "GET /v1/models",
        "GET /v1/models/{model_id}",
        "POST /v1/models/{model_id}/cancel",
        "GET /v1/models/{model_id}/download",
        "GET /v1/sandboxes",
        "GET /v1/sandboxes/{sandbox_id}",
        "PUT /v1/sandboxes/{sandbox_id}/files",
        "GET /v1/sandboxes/{sandbox_id}/files",
        "DELETE /v1/sandboxes/{sandbox_id}/files",
        "POST /v1/sandboxes/{sandbox_id}/execute",
        "GET /v1/sandboxes/{sandbox_id}/logs",
        "POST /v1/sandboxes/{sandbox_id}/executions",
        "GET /v1/sandboxes/{sandbox_id}/executions",
        "GET /v1/clusters/{cluster_id}/events/page",
        "GET /v1/trainings/{training_id}/events/page",
        "GET /v1/executions/{execution_id}",
        "GET /v1/executions/{execution_id}/events",
        "POST /v1/executions/{execution_id}/cancel",
        "POST /v1/keys",
        "GET /v1/keys",
        "GET /v1/keys/{key_id}",
        "DELETE /v1/keys/{key_id}",
        "POST /v1/keys/{key_id}/rotate",
        "GET /v1/project",
        "GET /v1/audit",
        "GET /problems/{code}",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }


def test_every_operation_reads_well(operations: dict[str, dict[str, Any]], document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert operation["description"], f"{name} has no description"


def test_every_json_body_has_an_example_that_fits(operations: dict[str, dict[str, Any]], document: dict[str, Any]) -> None:
    for operation in operations.values():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in (*bodies, *operation["responses"].values()):
            for media_type, content in body.get("content", {}).items():
                if media_type.endswith("json"):
                    check(document, content["schema"], content.get("example") or example(content["schema"]))


def test_no_example_is_left_over(operations: dict[str, dict[str, Any]], document: dict[str, Any]) -> None:
    assert document["components"]["schemas"].keys() >= EXAMPLES.keys()
    answered = {int(status) for operation in operations.values() for status in operation["responses"]}
    assert answered >= PROBLEMS.keys()


def test_every_refusal_is_a_problem(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert "X-Request-Id" in answer["headers"] or name == "get_readiness"
                assert list(answer["content"]) == ["application/problem+json"], f"{name} {status}"
        if operation["security"]:
            assert {"401", "403", "422", "429", "503"} <= operation["responses"].keys()


def test_what_is_created_or_costs_takes_a_key_and_what_is_slow_waits(operations: dict[str, dict[str, Any]]) -> None:
    headers = {
        name: {item["name"] for item in operation.get("parameters", []) if item["in"] == "header"}
        for name, operation in operations.items()
    }
    slow = {name for name, operation in operations.items() if "202" in operation["responses"]}
    creating = {"create_cluster", "deploy_node", "start_training", "resume_training", "create_search", "start_execution"}
    creating |= {"predict", "export_model", "create_key", "create_webhook"}
    assert {name for name, found in headers.items() if "Prefer" in found} == slow
    assert {name for name, found in headers.items() if "Idempotency-Key" in found} == creating
    for name in slow:
        assert {"Location", "Preference-Applied"} <= operations[name]["responses"]["202"]["headers"].keys()


def test_each_metric_says_how_it_is_computed(document: dict[str, Any]) -> None:
    metrics = document["components"]["schemas"]["TrainingMetrics"]["properties"]
    assert metrics.keys() == {"global_loss", "global_accuracy", "validation_accuracy", "convergence_rate"}
    assert all(len(item["description"]) > 60 for item in metrics.values())


def test_clients_may_meet_new_fields_and_may_not_send_any(document: dict[str, Any]) -> None:
    closed = {name for name, schema in document["components"]["schemas"].items() if schema.get("additionalProperties") is False}
    assert closed == {
        "ClusterConnect",
        "ClusterCreate",
        "ExecuteRequest",
        "ExecutionCreate",
        "ExportCreate",
        "KeyCreate",
        "KeyRotate",
        "NodeDeploy",
        "PredictionCreate",
        "SearchCreate",
        "TrainingCreate",
        "TrainingResume",
        "WebhookCreate",
        "WebhookUpdate",
    }


def test_a_stale_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(openapi_file, "OPENAPI_JSON", tmp_path / "openapi_file.json")
    assert openapi_file.main(["--check"]) == 1
    assert openapi_file.main([]) == 0
    assert openapi_file.main(["--check"]) == 0
    (tmp_path / "openapi_file.json").write_text("{}")
    assert openapi_file.main(["--check"]) == 1
    assert "make openapi" in capsys.readouterr().err


def test_the_committed_file_is_current() -> None:
    assert OPENAPI_JSON.read_text() == openapi_file.render()


def test_links_lead_from_what_an_answer_names_to_operations_that_take_it(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    schemas = document["components"]["schemas"]
    found = 0
    for operation in operations.values():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                ((parameter, expression),) = link["parameters"].items()
                field = expression.removeprefix("$response.body#/")
                body = schemas[answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
                assert field in body["required"], operation["operationId"]
                taken = {item["name"] for item in operations[link["operationId"]]["parameters"] if item["in"] == "path"}
                assert parameter in taken, link
                found += 1
    assert found > 30
