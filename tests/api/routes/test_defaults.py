"""A client may send every default that openapi.json declares, as generated clients do.

Each body is built from the document and sent to the real app.
"""

import json
from typing import Any

import pytest

from api.domain.scopes import SCOPES
from api.openapi_file import OPENAPI_JSON
from api.settings import Settings
from api.store import transitions
from api.store.tables import SearchRow, TrainingRow
from tests.api.routes.calls import PUBLIC_URL, guarded
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.user import User
from tests.api.schemas.test_defaults import OTHERS

SCHEMAS: dict[str, Any] = json.loads(OPENAPI_JSON.read_text())["components"]["schemas"]
# `bulyan` needs the most workers: four times its `byzantine_count`, which is 1, and three more.
WORKERS = 7


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, or the component that it refers to."""
    return {**SCHEMAS[schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema


def words(model: str, field: str) -> list[str]:
    """Return the words that a field of a request may have."""
    schema = resolved(SCHEMAS[model]["properties"][field])
    options = [resolved(option) for option in schema.get("anyOf", [schema])]
    return [word for option in options for word in option.get("enum", ())]


def filled(model: str, **given: Any) -> dict[str, Any]:
    """Return a request with `given`, and with the declared default of every other field."""
    properties = SCHEMAS[model]["properties"]
    declared = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    assert given.keys() <= properties.keys()
    assert given.keys() >= set(SCHEMAS[model].get("required", ()))
    return {**declared, **given}


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """No worker checks the data of these trainings, so the answers do not wait for it."""
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), training_check_wait_s=0.01)


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> User:
    return make_user(scopes=SCOPES)


@pytest.fixture(scope="module")
def cluster(user: User) -> str:
    cluster_id = user.cluster()
    for _ in range(WORKERS):
        user.running(cluster_id)
    user.running(cluster_id, node_type="parameter_server")
    user.call("POST", f"/v1/clusters/{cluster_id}/connect", 200, json=filled("ClusterConnect"))
    return cluster_id


def start(user: User, cluster: str, **given: Any) -> dict[str, Any]:
    """Start a training with every default, and end it as a worker would."""
    body = filled("TrainingCreate", dataset="/data/train_*.json", epochs=2, **given)
    training: dict[str, Any] = user.call("POST", f"/v1/clusters/{cluster}/trainings", 202, json=body)
    with user.rows.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(TrainingRow, training["training_id"]), "failed")
    return training


def search(user: User, cluster: str, **given: Any) -> dict[str, Any]:
    """Create a search with every default, and end it as a worker would."""
    body = filled("SearchCreate", dataset="/data/train_*.json", epochs=2, **given)
    created: dict[str, Any] = user.call("POST", f"/v1/clusters/{cluster}/searches", 202, json=body)
    with user.rows.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(SearchRow, created["search_id"]), "failed")
    return created


@pytest.mark.parametrize("strategy", words("TrainingCreate", "strategy"))
def test_a_training_of_each_strategy(user: User, cluster: str, strategy: str) -> None:
    assert start(user, cluster, strategy=strategy)["config"]["strategy"] == strategy


@pytest.mark.parametrize("compression", words("TrainingCreate", "compression"))
def test_a_training_of_each_compression(user: User, cluster: str, compression: str) -> None:
    assert start(user, cluster, compression=compression)["config"]["compression"] == compression


@pytest.mark.parametrize("method", words("SearchCreate", "method"))
@pytest.mark.parametrize("early_stopping", words("SearchCreate", "early_stopping"))
def test_a_search_of_each_method(user: User, cluster: str, method: str, early_stopping: str) -> None:
    space = {name: [SCHEMAS["SearchCreate"]["properties"][name]["default"], other] for name, other in OTHERS.items()}
    for name, values in space.items():
        created = search(user, cluster, method=method, early_stopping=early_stopping, space={name: values})
        assert [trial["options"][name] for trial in created["trials"]] == values


@pytest.mark.parametrize("strategy", words("SearchCreate", "strategy"))
def test_a_search_with_each_strategy(user: User, cluster: str, strategy: str) -> None:
    created = search(user, cluster, strategy=strategy, space={"learning_rate": [0.001, 0.01]})
    assert len(created["trials"]) == 2


@pytest.mark.parametrize("node_type", words("NodeDeploy", "node_type"))
def test_a_node_of_each_type(user: User, node_type: str) -> None:
    cluster_id = user.cluster()
    node = user.call("POST", f"/v1/clusters/{cluster_id}/nodes", 202, json=filled("NodeDeploy", node_type=node_type))
    assert node["node_type"] == node_type


@pytest.mark.parametrize("aggregation", words("PredictionCreate", "aggregation"))
@pytest.mark.parametrize("given", [{"inputs": ["good"]}, {"input_data": "/data/test.json"}], ids=["texts", "file"])
def test_a_prediction_of_each_aggregation(user: User, aggregation: str, given: dict[str, Any]) -> None:
    cluster_id = user.ready()
    user.round_done(user.training(cluster_id), 1)
    body = filled("PredictionCreate", aggregation=aggregation, **given)
    assert user.call("POST", f"/v1/clusters/{cluster_id}/predictions", 202, json=body)["aggregation"] == aggregation


def test_the_other_bodies(user: User) -> None:
    created = user.call("POST", "/v1/clusters", 201, json=filled("ClusterCreate", name="tests"))
    assert created["topology"] == "mesh"
    key = user.call("POST", "/v1/keys", 201, json=filled("KeyCreate", name="tests", scopes=["clusters:read"]))
    user.call("POST", f"/v1/keys/{key['key_id']}/rotate", 200, json=filled("KeyRotate"))

    webhook = user.call(
        "POST", "/v1/webhooks", 201, json=filled("WebhookCreate", name="h", url=PUBLIC_URL, event_types=["node.*"])
    )
    user.call("PATCH", f"/v1/webhooks/{webhook['webhook_id']}", 200, json=filled("WebhookUpdate"))

    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    user.round_done(training_id, 1)
    user.training_becomes(training_id, "failed")
    user.call("POST", f"/v1/trainings/{training_id}/exports", 202, json=filled("ExportCreate", name="first"))
    user.call("POST", f"/v1/trainings/{training_id}/resume", 202, json=filled("TrainingResume"))

    sandbox = f"/v1/sandboxes/{user.running(cluster_id)}"
    user.call("POST", f"{sandbox}/executions", 202, json=filled("ExecutionCreate", code="print(1)"))
    # The body is accepted. No sandbox host listens in these tests.
    assert user.refused("POST", f"{sandbox}/execute", 503, json=filled("ExecuteRequest", code="1"))["code"]


def test_every_body_of_the_document_was_sent() -> None:
    sent = {"ClusterConnect", "ClusterCreate", "ExecuteRequest", "ExecutionCreate", "ExportCreate", "KeyCreate", "KeyRotate"}
    sent |= {
        "NodeDeploy",
        "PredictionCreate",
        "SearchCreate",
        "TrainingCreate",
        "TrainingResume",
        "WebhookCreate",
        "WebhookUpdate",
    }
    bodies = [operation.item.get("requestBody", {}).get("content", {}).get("application/json") for operation in guarded()]
    assert {body["schema"]["$ref"].rpartition("/")[2] for body in bodies if body} == sent
