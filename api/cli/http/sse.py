"""A parser of server-sent events.

It follows the HTML standard, section 9.2.6, "Interpreting an event stream".
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `id` is the last identifier in the stream so far, or None before the first."""

    id: str | None
    event: str
    data: str


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines that end in CR, LF or CRLF. (str.splitlines would also split JSON at U+2028.)"""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    buffer = ""
    for chunk in chunks:
        buffer += decoder.decode(chunk)
        # A CR at the end may be the first half of a CRLF.
        held = "\r" if buffer.endswith("\r") else ""
        *lines, rest = buffer.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        buffer = rest + held
        yield from lines


def parse(chunks: Iterable[bytes]) -> Iterator[Event | None]:
    """Yield each complete event, and None for a comment (a heartbeat)."""
    identifier: str | None = None
    name, data = "message", list[str]()
    for line in _lines(chunks):
        if not line:
            if data:
                yield Event(identifier, name, "\n".join(data))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field:
            yield None
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            identifier = value
