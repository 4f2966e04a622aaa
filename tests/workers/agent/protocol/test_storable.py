"""Whatever an agent reports can be stored: nothing in it makes a statement of the database fail."""

import json

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from api.store.database import Database
from workers.agent.protocol import storable


class _Report(BaseModel):
    text: str = ""
    names: dict[str, int] = {}
    loss: float | None = None
    samples: int | None = None
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (rb'{"text": "a\u0000b"}', _Report(text="a\ufffdb")),
        (b'{"text": "a\x00b"}', _Report(text="a\ufffdb")),
        (rb'{"text": "a\ud800b"}', _Report(text="a\ufffdb")),
        (rb'{"text": "\udc00\ud83d"}', _Report(text="\ufffd\ufffd")),
        (rb'{"text": "\ud83d\ude00"}', _Report(text="😀")),
        (b'{"text": "na\xefve"}', _Report(text="na\ufffdve")),
        (rb'{"names": {"a\u0000": 1}}', _Report(names={"a\ufffd": 1})),
        (b'{"loss": NaN}', _Report(loss=None)),
        (b'{"loss": -Infinity}', _Report(loss=None)),
        (b'{"loss": 1e999}', _Report(loss=None)),
        (b'{"samples": 123456789012345678901234567890}', _Report(samples=None)),
        (b'{"samples": 9223372036854775807}', _Report(samples=2**63 - 1)),
        (rb'{"text": "\\u0000 NaN", "sizes": [1, 2]}', _Report(text=r"\u0000 NaN", sizes=(1, 2))),
    ],
)
def test_what_cannot_be_stored_is_replaced(content: bytes, expected: _Report) -> None:
    assert storable.load(content, _Report) == expected


@pytest.mark.parametrize("content", [b"", b"[1", b'{"samples": [NaN]}', b'{"text": 1}', b"[" * 100_000 + b"\x00"])
def test_another_form_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"Invalid JSON|Expecting|validation error|nested too deep"):
        storable.load(content, _Report)


def test_an_agent_sends_names_that_are_not_utf_8() -> None:
    sent = storable.dump(_Report(text="file-\udcff.json", names={"\udcff": 1}))
    assert json.loads(sent) == {"text": "file-\ufffd.json", "names": {"\ufffd": 1}, "loss": None, "samples": None, "sizes": []}


def test_the_database_takes_a_cleaned_message(database: Database) -> None:
    report = storable.load(rb'{"text": "a\u0000\ud800", "loss": NaN, "names": {"\u0000": 1}}', _Report)
    with database.unit_of_work() as uow:
        stored = uow.session.scalar(text("SELECT CAST(:value AS jsonb)"), {"value": report.model_dump_json()})
    assert stored["text"] == "a\ufffd\ufffd"
