"""openapi.json has what generators of clients need: names, formats, shared parts, bounded size."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.domain.problem_codes import CATALOGUE
from api.domain.status import ClusterState
from api.domain.topology import Topology
from api.domain.words import words_of
from api.http.openapi_schemas import schemas_of
from api.openapi_file import OPENAPI_JSON, pretty
from api.store.kinds import KINDS
from tests.api.routes.document import METHODS, document, whole

MOST_BYTES = 300_000
MOST_BYTES_OF_AN_OPERATION = 5_000
# Names that mean something else in the standard library of a language, or that say too little.
AMBIGUOUS = {"File", "Execute", "Line", "Link", "Results", "Metrics", "NewKey", "Error", "Object", "Map", "Set", "List", "Date"}
AMBIGUOUS |= {"String", "Number", "Boolean", "Integer", "Record", "Thread", "Process", "Event", "Request", "Response", "Enum"}
BYTES = re.compile(r"(^|_)(bytes|size)($|_)")
SCHEMAS: dict[str, dict[str, Any]] = document()["components"]["schemas"]
OPERATIONS: dict[str, dict[str, Any]] = {
    item["operationId"]: item for items in document()["paths"].values() for verb, item in items.items() if verb in METHODS
}
REQUESTS = {
    content["schema"]["$ref"].rpartition("/")[2]
    for operation in OPERATIONS.values()
    for content in operation.get("requestBody", {}).get("content", {}).values()
    if "$ref" in content["schema"]
}


def properties() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each field with the name of its schema."""
    for name, schema in SCHEMAS.items():
        for whole_or_part in (schema, *schema.get("allOf", ())):
            for field, part in whole_or_part.get("properties", {}).items():
                yield name, field, part


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        for option in schema.get(key, ()):
            yield from parts(option)


def size(value: Any) -> int:
    """Return the bytes of a value as the file has it."""
    return len(pretty(value).encode())


def test_the_file_is_small() -> None:
    assert OPENAPI_JSON.stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_small(name: str) -> None:
    assert size(OPERATIONS[name]) <= MOST_BYTES_OF_AN_OPERATION


def test_names_are_clear_and_clash_with_nothing() -> None:
    assert AMBIGUOUS.isdisjoint(SCHEMAS)
    assert [name for name in SCHEMAS if not re.fullmatch(r"([A-Z][a-z0-9]+)+", name)] == []
    assert len({name.lower() for name in SCHEMAS}) == len(SCHEMAS)


def test_no_field_has_the_name_of_its_class() -> None:
    assert [(name, field) for name, field, _ in properties() if field.replace("_", "").lower() == name.lower()] == []


def test_a_page_is_called_after_its_items() -> None:
    pages = [name for name, schema in SCHEMAS.items() if {"items", "next_cursor"} <= schema.get("properties", {}).keys()]
    for name in pages:
        assert name == SCHEMAS[name]["properties"]["items"]["items"]["$ref"].rpartition("/")[2] + "Page"
    assert "ClusterPage" in pages


def test_the_security_scheme_is_a_bearer_key() -> None:
    ((name, scheme),) = document()["components"]["securitySchemes"].items()
    assert (name, scheme["type"], scheme["scheme"]) == ("BearerKey", "http", "bearer")


def test_every_closed_set_of_words_is_one_named_enumeration() -> None:
    # `type` of an event tells its class. `EventType` has all of them.
    events = {reference.rpartition("/")[2] for reference in SCHEMAS["ClusterEvent"]["discriminator"]["mapping"].values()}
    fields = [part for name, field, part in properties() if not (name in events and field == "type")]
    assert [schema for part in fields for schema in parts(part) if "enum" in schema] == []
    in_paths = schemas_of({"components": {"schemas": {}}, "paths": whole(document()["paths"])})
    assert [schema for schema in in_paths if "enum" in schema] == []
    sets = [frozenset(schema["enum"]) for schema in SCHEMAS.values() if "enum" in schema]
    assert len(sets) > 30
    assert len(set(sets)) == len(sets), "two enumerations have the same words"


def test_statuses_are_those_of_the_tables_of_legal_moves() -> None:
    for kind in KINDS:
        assert SCHEMAS[f"{kind.noun.capitalize()}State"]["enum"] == [*kind.moves]


def test_fields_with_words_refer_to_their_enumeration() -> None:
    words = {"status", "state", "role", "scopes", "capabilities", "template", "stream", "action", "topology", "consensus"}
    plain = {
        f"{name}.{field}"
        for name, field, part in properties()
        if field in words and not any("$ref" in schema for schema in parts(part))
    }
    # HTTP's own statuses are numbers. The health of the process has one word.
    assert plain == {"AuditEntry.status", "Problem.status", "EventFailure.status", "Health.status"}


def test_error_codes_are_listed_and_the_list_is_open() -> None:
    code = SCHEMAS["ProblemCode"]
    assert code["examples"] == [*CATALOGUE]
    assert "enum" not in code
    for name in ("Problem", "Failure", "ProblemExplanation"):
        assert SCHEMAS[name]["properties"]["code"]["$ref"].endswith("/ProblemCode")


def test_no_header_has_one_constant_value() -> None:
    """openapi-python-client leaves out an operation with such a header."""
    headers = [
        item
        for operation in whole([*OPERATIONS.values()])
        for item in operation.get("parameters", ())
        if item["in"] == "header"
    ]
    assert headers
    assert [item["name"] for item in headers if "const" in item["schema"]] == []


def test_what_a_schema_inherits_and_its_own_fields_are_parts_of_equal_rank() -> None:
    """Some generators take the only part of `allOf` for the whole schema."""
    inherited = {name: schema for name, schema in SCHEMAS.items() if "allOf" in schema}
    assert inherited
    assert [name for name, schema in inherited.items() if "properties" in schema or len(schema["allOf"]) < 2] == []


def test_every_number_has_a_format() -> None:
    formats = {"integer": {"int32", "int64"}, "number": {"double"}}
    for schema in schemas_of({"components": document()["components"], "paths": whole(document()["paths"])}):
        kinds = schema.get("type")
        for kind in formats.keys() & (kinds if isinstance(kinds, list) else [kinds]):
            assert schema.get("format") in formats[kind], schema


def test_bytes_and_sizes_are_int64() -> None:
    for name, field, part in properties():
        if BYTES.search(field) and field != "batch_size":
            assert {item.get("format") for item in parts(part) if item.get("type") == "integer"} <= {"int64"}, f"{name}.{field}"


def test_fields_that_are_always_sent_are_required() -> None:
    answers = SCHEMAS.keys() - REQUESTS - {"Problem", "DifferentialPrivacyCreate"}
    for name in answers:
        schema = SCHEMAS[name]
        assert {*schema.get("properties", {})} == {*schema.get("required", ())}, name
        assert not any("default" in part for part in schema.get("properties", {}).values()), name


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_parameter_is_nullable_and_each_has_a_description(name: str) -> None:
    for parameter in whole(OPERATIONS[name]).get("parameters", ()):
        assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), parameter["name"]
        assert parameter.get("description"), parameter["name"]


def test_every_schema_has_a_description() -> None:
    assert [name for name, schema in SCHEMAS.items() if not schema.get("description")] == []


def test_no_object_is_untyped() -> None:
    assert "patternProperties" not in OPENAPI_JSON.read_text()
    untyped = [
        f"{name}.{field}"
        for name, field, part in properties()
        for schema in parts(part)
        if schema == {}
        or (schema.get("type") == "object" and not {"properties", "additionalProperties", "$ref"} & schema.keys())
        or schema.get("additionalProperties") is True
    ]
    assert untyped == []


def test_errors_headers_and_recurring_parameters_are_written_once() -> None:
    seen: set[str] = set()
    for operation in OPERATIONS.values():
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and operation["operationId"] != "get_readiness":
                assert set(answer) == {"$ref"}
            assert all(set(header) == {"$ref"} for header in answer.get("headers", {}).values())
        for parameter in operation.get("parameters", ()):
            text = json.dumps(parameter)
            assert "$ref" in parameter or text not in seen, parameter["name"]
            seen.add(text)


def test_each_operation_names_its_scope_or_needs_no_key() -> None:
    scopes = {*SCHEMAS["Scope"]["enum"]}
    for name, operation in OPERATIONS.items():
        if operation["security"]:
            ((scope,),) = (names for requirement in operation["security"] for names in requirement.values())
            assert scope in scopes
            assert f"`{scope}`" in operation["description"], name
        else:
            assert operation["security"] == []


def test_the_document_says_where_the_service_is_and_who_runs_it() -> None:
    assert [server["url"] for server in document()["servers"]] == ["/"]
    assert document()["info"]["contact"]["name"]


def test_a_set_of_words_can_be_read_from_its_type() -> None:
    assert words_of(Topology) == tuple(SCHEMAS["Topology"]["enum"])
    assert words_of(ClusterState) == tuple(SCHEMAS["ClusterState"]["enum"])
