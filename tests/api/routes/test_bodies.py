"""Strict bodies: unknown fields, wrong types and wrong values are refused, with their place."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.domain.scopes import SCOPES
from api.openapi_file import OPENAPI_JSON
from tests.api.routes.calls import Operation, operations
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import CLUSTER, TRAINING, User

NAMES: list[tuple[Any, str]] = [
    ("", "empty"),
    (" \t ", "blank"),
    ("a" * 201, "long"),
    ("a\nb", "newline"),
    ("a\x1b[2Jb", "escape"),
    ("a\x00b", "NUL"),
    (None, "null"),
    (1, "number"),
    (["a"], "list"),
]


@pytest.mark.parametrize("name", [value for value, _ in NAMES], ids=[label for _, label in NAMES])
def test_names(user: User, name: Any) -> None:
    body = user.refused("POST", "/v1/clusters", 422, json={"name": name})
    assert [error["pointer"] for error in body["errors"]] == ["/name"]


def test_a_ten_megabyte_name_is_not_echoed(user: User) -> None:
    body = user.refused("POST", "/v1/clusters", 422, json={"name": "a" * 90_000, "topology": "x" * 5000})
    assert {error["pointer"] for error in body["errors"]} == {"/name", "/topology"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topology", "tree"),
        ("architecture", "mlp"),
        ("consensus", "paxos"),
        ("daa_enabled", "true"),
        ("daa_enabled", 1),
        ("wasm_optimization", None),
        ("unknown", 1),
        ("a/b~c", 1),
    ],
)
def test_cluster_fields(user: User, field: str, value: Any) -> None:
    body = user.refused("POST", "/v1/clusters", 422, json={**CLUSTER, field: value})
    assert body["code"] == "invalid_request"
    assert [error["pointer"] for error in body["errors"]] == ["/" + field.replace("~", "~0").replace("/", "~1")]


def test_a_consensus_that_the_topology_cannot_carry_is_refused(user: User) -> None:
    body = user.refused("POST", "/v1/clusters", 422, json={**CLUSTER, "consensus": "gossip", "topology": "star"})
    assert body["code"] == "consensus_conflict"
    assert body["errors"][0]["pointer"] == "/topology"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", True),
        ("epochs", 1.5),
        ("epochs", "4"),
        ("epochs", 10**30),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", -0.1),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("optimizer", "lion"),
        ("federated", "true"),
        ("local_epochs", 0),
        ("seed", -1),
        ("weight_decay", -1),
        ("max_length", 1),
        ("strategy", 7),
        ("unknown", 1),
    ],
)
def test_training_fields(user: User, field: str, value: Any) -> None:
    body = user.refused("POST", "/v1/clusters/any/trainings", 422, json={**TRAINING, field: value})
    assert [error["pointer"] for error in body["errors"]] == [f"/{field}"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(user: User, number: str) -> None:
    content = json.dumps({**TRAINING, "learning_rate": 0.5}).replace("0.5", number)
    headers = {"Content-Type": "application/json"}
    body = user.refused("POST", "/v1/clusters/any/trainings", 422, content=content, headers=headers)
    assert [error["pointer"] for error in body["errors"]] == ["/learning_rate"]


@pytest.mark.parametrize("missing", ["dataset", "epochs"])
def test_what_a_training_needs(user: User, missing: str) -> None:
    body = user.refused(
        "POST", "/v1/clusters/any/trainings", 422, json={key: value for key, value in TRAINING.items() if key != missing}
    )
    assert [error["pointer"] for error in body["errors"]] == [f"/{missing}"]


@pytest.mark.parametrize("field", ["dataset", "validation"])
@pytest.mark.parametrize("path", ["", "data/x.json", "/data/../etc/passwd", "/a\x00b", "/a\nb", "/" + "a" * 2000])
def test_paths(user: User, field: str, path: str) -> None:
    body = user.refused("POST", "/v1/clusters/any/trainings", 422, json={**TRAINING, field: path})
    assert [error["pointer"] for error in body["errors"]] == [f"/{field}"]


@pytest.mark.parametrize(
    "body",
    [b'{"dataset": "/\\ud800", "epochs": 1}', b'{"dataset": "/a", "epochs": 1, "strategy": "\\udfff"}', b'{"\\ud800": 1}'],
)
def test_lone_surrogates(user: User, body: bytes) -> None:
    user.refused("POST", "/v1/clusters/any/trainings", 422, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"node_type": "worker", "role": "aggregator"}, ""),
        ({"node_type": "aggregator"}, "/node_type"),
        ({"autonomy": 1.1}, "/autonomy"),
        ({"autonomy": -0.1}, "/autonomy"),
        ({"autonomy": True}, "/autonomy"),
        ({"template": "ruby"}, "/template"),
        ({"model": ""}, "/model"),
        ({"model": "a" * 501}, "/model"),
        ({"capabilities": ["flying"]}, "/capabilities/0"),
        ({"capabilities": "training"}, "/capabilities"),
        ({"sandbox_id": "sbx"}, "/sandbox_id"),
    ],
)
def test_node_fields(user: User, fields: dict[str, Any], pointer: str) -> None:
    body = user.refused("POST", "/v1/clusters/any/nodes", 422, json=fields)
    assert [error["pointer"] for error in body["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("node_type", "role", "capabilities"),
    [
        ("worker", "worker", ["training", "inference"]),
        ("parameter_server", "aggregator", ["aggregation", "synchronization"]),
        ("validator", "validator", ["validation"]),
    ],
)
def test_a_nodes_defaults_come_from_its_type(user: User, node_type: str, role: str, capabilities: list[str]) -> None:
    path = f"/v1/clusters/{user.cluster()}/nodes"
    node = user.call("POST", path, 202, json={"node_type": node_type})
    assert (node["role"], node["capabilities"], node["model"], node["template"]) == (role, capabilities, "base", "python")
    assert node["resources"] is None
    assert node["sandbox_id"] is None


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, ""),
        ({"inputs": ["a"], "input_data": "/data/test.json"}, ""),
        ({"inputs": []}, "/inputs"),
        ({"inputs": ["a", 1]}, "/inputs/1"),
        ({"inputs": ["a\x00"]}, "/inputs/0"),
        ({"inputs": ["a", ""]}, "/inputs/1"),
        ({"inputs": ["a", " \n"]}, "/inputs/1"),
        ({"input_data": "test.json"}, "/input_data"),
        ({"inputs": ["a"], "aggregation": "sum"}, "/aggregation"),
        ({"inputs": ["a"], "votes": True}, ""),
        ({"input_data": "/data/test.json", "aggregation": "mean", "votes": True}, ""),
        ({"inputs": ["a"] * 1001, "aggregation": "mean", "votes": True}, ""),
    ],
)
def test_prediction_fields(user: User, fields: dict[str, Any], pointer: str) -> None:
    body = user.refused("POST", "/v1/clusters/any/predictions", 422, json=fields)
    assert [error["pointer"] for error in body["errors"]] == [pointer]


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "a\n", "ü", "a" * 101])
def test_export_names(user: User, name: str) -> None:
    body = user.refused("POST", "/v1/trainings/any/exports", 422, json={"name": name})
    assert [error["pointer"] for error in body["errors"]] == ["/name"]


def _texts(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Return the names of the fields of a body whose value is a text, not a word of a list."""
    properties = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
    options = {name: (field, *field.get("anyOf", ())) for name, field in properties.items()}
    return [name for name, fields in options.items() if any(f.get("type") == "string" and "enum" not in f for f in fields)]


# What a program reads is its own affair.
MAY_BE_BLANK = {"stdin"}


@pytest.mark.parametrize(
    "operation",
    [operation for operation in operations() if "application/json" in operation.item.get("requestBody", {}).get("content", {})],
    ids=lambda operation: operation.name,
)
def test_no_field_of_any_body_takes_a_blank_text(make_user: MakeUser, operation: Operation) -> None:
    admin = make_user(scopes=SCOPES)
    document = json.loads(OPENAPI_JSON.read_text())
    call = operation.call({})
    content = operation.item["requestBody"]["content"]["application/json"]["schema"]
    reference = content if "$ref" in content else next(part for part in content["anyOf"] if "$ref" in part)
    for name in set(_texts(reference, document)) - MAY_BE_BLANK:
        for blank in ("", " ", "\n\t"):
            answer = admin.http.request(**{**call, "json": {**call["json"], name: blank}})
            assert answer.status_code == 422, f"{name}={blank!r}: {answer.text}"
            assert f"/{name}" in [error["pointer"] for error in answer.json()["errors"]], answer.text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=20)
FIELDS = ("name", "topology", "dataset", "epochs", "learning_rate", "inputs", "input_data", "model", "capabilities", "code")
OBJECTS = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(st.characters(exclude_categories=()), max_size=5),
    SCALARS | st.lists(SCALARS, max_size=3),
    max_size=5,
)
POSTS = (
    "/v1/clusters",
    "/v1/clusters/any/nodes",
    "/v1/clusters/any/connect",
    "/v1/clusters/any/trainings",
    "/v1/clusters/any/predictions",
    "/v1/trainings/any/exports",
    "/v1/sandboxes/any/execute",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=OBJECTS | SCALARS | st.lists(SCALARS, max_size=3))
def test_nothing_that_is_sent_breaks_it(user: User, path: str, body: Any) -> None:
    answer = user.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (201, 404, 422), answer.text
    json.dumps(answer.json(), allow_nan=False)


def test_another_strategys_parameter_is_named_by_its_pointer(user: User) -> None:
    wanted = {**TRAINING, "strategy": "krum", "server_momentum": 0.9, "trim_fraction": 0.1}
    body = user.refused("POST", "/v1/clusters/any/trainings", 422, json=wanted)
    assert [error["pointer"] for error in body["errors"]] == ["/server_momentum", "/trim_fraction"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"compression": "int8", "compression_ratio": 0.5}, "/compression_ratio"),
        ({"compression_ratio": 0.5}, "/compression_ratio"),
        ({"compression": "fp16", "gradient_compression": False}, "/gradient_compression"),
        ({"compression": "none", "gradient_compression": True}, "/gradient_compression"),
        ({"compression": "zip"}, "/compression"),
        ({"compression": "topk", "lora_rank": 4}, "/lora_rank"),
    ],
)
def test_contradictory_compressions_are_refused(user: User, fields: dict[str, object], pointer: str) -> None:
    body = user.refused("POST", "/v1/clusters/any/trainings", 422, json={**TRAINING, **fields})
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_protections_that_a_cluster_or_another_option_excludes_are_refused_by_name(user: User) -> None:
    cluster_id = user.ready(consensus="proof-of-learning")
    asked = {**TRAINING, "secure_aggregation": True, "differential_privacy": {"target_epsilon": 8}, "mixed_precision": True}
    body = user.refused("POST", f"/v1/clusters/{cluster_id}/trainings", 422, json={**asked, "strategy": "krum"})
    assert body["code"] == "options_exclude_each_other"
    pointers = [error["pointer"] for error in body["errors"]]
    assert pointers == ["/secure_aggregation", "/strategy", "/differential_privacy", "/mixed_precision"]
