"""The catalogue of event types and what the code emits name the same types."""

import re
from functools import cache
from pathlib import Path

import pytest

from api.domain.events import MEANINGS, WORKER_STATE_EVENTS, EventType, matching
from api.store.kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]
EVENTS_FILE = ROOT / "api/domain/events.py"
STATUS_EVENTS = {f"{kind.noun}.{status}" for kind in KINDS for status in kind.moves}

# Regular expressions: on Python 3.11, ast.parse fails now and then while other threads parse.
NAMED = re.compile(r"\bEventType\.([A-Z_]+)\b")
EMITTED_TEXT = re.compile(r"\b_?emit\(\s*(?:(?:[^,(){]|\([^()]*\))+,\s*){0,2}\"([^\"]+)\"")


@cache
def sources() -> str:
    """Return the source text of the API and the workers, without the catalogue."""
    paths = [*ROOT.glob("api/**/*.py"), *ROOT.glob("workers/**/*.py")]
    return "\n".join(path.read_text() for path in paths if path != EVENTS_FILE)


def named_in_the_code() -> set[str]:
    """Return the event types that the code names as a member of `EventType`."""
    through_the_table = WORKER_STATE_EVENTS.values() if "WORKER_STATE_EVENTS" in sources() else ()
    return {EventType[name].value for name in NAMED.findall(sources())} | {*through_the_table}


def test_every_type_has_a_meaning() -> None:
    assert set(MEANINGS) == set(EventType)
    assert all(meaning.endswith(".") for meaning in MEANINGS.values())


def test_every_change_of_status_has_a_type() -> None:
    assert set(EventType) >= STATUS_EVENTS


def test_no_type_is_emitted_as_a_text() -> None:
    assert EMITTED_TEXT.search('emit(tx, ids("a"), "training.started")') is not None
    assert EMITTED_TEXT.findall(sources()) == []


@pytest.mark.parametrize("event_type", sorted(set(EventType) - STATUS_EVENTS))
def test_every_other_type_is_emitted_somewhere(event_type: str) -> None:
    assert event_type in named_in_the_code()


def test_a_name_means_one_type_or_all_that_begin_so() -> None:
    assert matching("round.completed") == {"round.completed"}
    assert matching("search.trial*") == frozenset()
    assert matching("node.*") == {event_type for event_type in EventType if event_type.startswith("node.")}
    assert matching("round") == matching("") == matching("*") == frozenset()
