"""The catalogue of event types and what the code emits name the same types."""

import ast
from functools import cache
from pathlib import Path

import pytest

from api.domain.events import CATALOGUE, WORKER_STATE_EVENTS, EventType, as_markdown
from api.store.kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]
CATALOGUE_FILE = ROOT / "api/domain/events.py"
STATUS_EVENTS = {f"{kind.noun}.{status}" for kind in KINDS for status in kind.moves}


@cache
def trees() -> list[ast.Module]:
    """Return the syntax trees of the files of the API and the workers, without the catalogue."""
    paths = [*ROOT.glob("api/**/*.py"), *ROOT.glob("workers/**/*.py")]
    texts = [path.read_text() for path in paths if path != CATALOGUE_FILE]
    return [ast.parse(text) for text in texts if "emit" in text or "EventType" in text]


@cache
def named_in_the_code() -> frozenset[str]:
    """Return the event types that the code names as a member of `EventType`."""
    named: set[str] = set()
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "EventType":
            named.add(EventType[node.attr].value)
        elif isinstance(node, ast.Name) and node.id == "WORKER_STATE_EVENTS":
            named |= {event_type.value for event_type in WORKER_STATE_EVENTS.values()}
    return frozenset(named)


def texts_as_types() -> set[str]:
    """Return the texts that stand as the event type in a call of `emit`."""
    calls = [node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    emits = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in ("emit", "_emit")]
    arguments = [argument for call in emits for argument in call.args[:3]]
    return {argument.value for argument in arguments if isinstance(argument, ast.Constant) and isinstance(argument.value, str)}


def test_every_type_has_a_description() -> None:
    assert set(CATALOGUE) == set(EventType)
    for described in CATALOGUE.values():
        assert described.meaning.endswith(".")
        assert described.fields
        assert len(set(described.fields)) == len(described.fields)


def test_every_change_of_status_has_a_type() -> None:
    assert set(EventType) >= STATUS_EVENTS
    for kind in KINDS:
        for status in kind.moves:
            assert {f"{kind.noun}_id", "from", "status"} <= {*CATALOGUE[EventType(f"{kind.noun}.{status}")].fields}


def test_no_type_is_emitted_as_a_text() -> None:
    assert texts_as_types() == set()


@pytest.mark.parametrize("event_type", sorted(set(EventType) - STATUS_EVENTS))
def test_every_other_type_is_emitted_somewhere(event_type: str) -> None:
    assert event_type in named_in_the_code()


def test_the_table_for_the_documentation_names_every_type() -> None:
    table = as_markdown()
    assert all(f"| `{event_type}` | " in table for event_type in EventType)
