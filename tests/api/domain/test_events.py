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
def named_in_the_code() -> frozenset[str]:
    """Return the event types that the API and the workers name, as a member of `EventType` or as text."""
    named: set[str] = set()
    for path in [*ROOT.glob("api/**/*.py"), *ROOT.glob("workers/**/*.py")]:
        if path == CATALOGUE_FILE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "EventType":
                named.add(EventType[node.attr].value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    return frozenset(named)


def emitted_literals() -> set[str]:
    """Return the texts that stand as the event type in a call of `emit`."""
    texts: set[str] = set()
    for path in [*ROOT.glob("api/**/*.py"), *ROOT.glob("workers/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("emit", "_emit"):
                texts |= {str(argument.value) for argument in node.args[2:3] if isinstance(argument, ast.Constant)}
    return texts


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


def test_every_emitted_text_is_in_the_catalogue() -> None:
    assert emitted_literals() <= set(EventType)


@pytest.mark.parametrize("event_type", sorted(set(EventType) - STATUS_EVENTS - set(WORKER_STATE_EVENTS.values())))
def test_every_other_type_is_emitted_somewhere(event_type: str) -> None:
    assert event_type in named_in_the_code()


def test_the_table_for_the_documentation_names_every_type() -> None:
    table = as_markdown()
    assert all(f"| `{event_type}` | " in table for event_type in EventType)
