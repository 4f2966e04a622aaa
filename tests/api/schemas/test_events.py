"""Each event type has a class with all fields that the code emits."""

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from api.domain.events import EventType
from api.schemas.events.union import MODELS, ClusterEvent, page, types_of, written
from api.store.kinds import KINDS
from api.store.tables import EventRow
from tests.api.routes.document import document

SCHEMAS = document()["components"]["schemas"]


def row(event_type: str, number: int = 7, **data: object) -> EventRow:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return EventRow(cluster_id="cls_1", seq=number, training_id=None, type=event_type, data=data, created_at=moment)


def test_every_type_has_one_class() -> None:
    assert set(MODELS) == set(EventType)
    assert sorted(event_type for model in set(MODELS.values()) for event_type in types_of(model)) == sorted(EventType)


def test_every_change_of_status_has_the_old_and_the_new_one() -> None:
    for kind in KINDS:
        for status in kind.moves:
            model = MODELS[EventType(f"{kind.noun}.{status}")]
            assert {f"{kind.noun}_id", "from_", "status"} <= model.model_fields.keys()


def test_an_event_is_written_with_each_field_of_its_type() -> None:
    event = written(
        row("node.running", 7, **{"node_id": "node_1", "from": "provisioning", "status": "running", "role": "worker"})
    )
    assert event["id"] == 7
    assert event["type"] == "node.running"
    assert event["cluster_id"] == "cls_1"
    assert event["time"] == "2026-01-02T00:00:00.000Z"
    assert event["from"] == "provisioning"
    assert [name for name, value in event.items() if value is None] == ["training_id", "sandbox_id", "reason", "error"]
    TypeAdapter(ClusterEvent).validate_python(event)


def test_an_event_of_another_version_is_written_as_it_is() -> None:
    assert written(row("cluster.painted", colour="red"))["colour"] == "red"


def test_a_page_says_where_the_next_one_begins() -> None:
    assert page([row("cluster.terminated", 8), row("cluster.terminated", 12)], 3).next_after == 12
    assert page([], 3).next_after == 3


@pytest.mark.parametrize("event_type", EventType)
def test_the_document_finds_the_class_of_a_type(event_type: EventType) -> None:
    reference = SCHEMAS["ClusterEvent"]["discriminator"]["mapping"][event_type.value]
    schema = SCHEMAS[reference.rpartition("/")[2]]
    base, own = schema["allOf"]
    assert base == {"$ref": "#/components/schemas/EventBase"}
    kind = own["properties"]["type"]
    assert event_type.value in kind.get("enum", [kind.get("const")])


def test_the_document_lists_all_types() -> None:
    assert SCHEMAS["EventType"]["enum"] == [event_type.value for event_type in EventType]
