"""A JSON text that is parsed value by value while it is read."""

import json
import re
from collections.abc import Iterator
from typing import Final

from workers.agent.datasets.file_bytes import DataFile

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()
# The parser names the place where a value broke off. The longest word or escape has 12 characters.
_LONGEST_TOKEN: Final = 16


class JsonText:
    """A window on the text of a file, and a position in it.

    The window begins near the position and grows at its end. It holds one value at a time.
    """

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._pieces = file.text()
        self._text = ""
        self._position = 0
        self._is_last = False
        # The place of the window's first character. Columns count from 0 here.
        self._first_line, self._first_column = 1, 0
        self._line, self._counted = 1, 0

    @property
    def line(self) -> int:
        """The line of the position, from 1."""
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line

    def next_character(self) -> str:
        """Move to the next character that is no space. Return it; empty at the end of the text."""
        while True:
            match = _SPACE.match(self._text, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if self._is_last:
                return ""
            self._grow()

    def value(self) -> object:
        """Parse the value at the position, and move behind it.

        Raises:
            ValueError, RecursionError: it is no JSON.
            DataError: it is larger than what is parsed at once.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if self._is_last or not self._is_cut(error):
                    raise
            else:
                # A number at the window's end may go on behind it.
                if end < len(self._text) or self._is_last:
                    self._position = end
                    return value
            self._grow()

    def elements(self) -> Iterator[object]:
        """Yield the elements of the array at the position, and move behind it.

        Raises: as `value`.
        """
        is_left = self._enter("]")
        while is_left:
            yield self.value()
            is_left = self._go_on("]")

    def members(self) -> Iterator[str]:
        """Yield the keys of the object at the position, and move behind it.

        The position is at a key's value. The caller moves behind it before the next key.
        Raises: as `value`.
        """
        is_left = self._enter("}")
        while is_left:
            key = self.value()
            if not isinstance(key, str) or self.next_character() != ":":
                raise json.JSONDecodeError("Expecting ':' delimiter", self._text, self._position)
            self._position += 1
            self.next_character()
            yield key
            is_left = self._go_on("}")

    def skip_line(self) -> bool:
        """Move to the next line that is not empty. Return whether an object begins there.

        True also at the end of the text.
        """
        while (end := self._text.find("\n", self._position)) < 0 and not self._is_last:
            self._grow()
        self._position = end if end >= 0 else len(self._text)
        return self.next_character() in ("", "{")

    def place(self, error: Exception) -> str:
        """Return where the text is no JSON, as words."""
        if not isinstance(error, json.JSONDecodeError):
            return f"line {self.line}"  # a number too long or a nesting too deep for the parser
        column = error.colno + (self._first_column if error.lineno == 1 else 0)
        return f"line {self._first_line + error.lineno - 1}, column {column}"

    def _enter(self, end: str) -> bool:
        """Move to the first item of an array or object. Return False, behind it, if it is empty."""
        self._position += 1
        if self.next_character() != end:
            return True
        self._position += 1
        return False

    def _go_on(self, end: str) -> bool:
        """Move from the end of an item to the next. Return False, behind `end`, after the last."""
        separator = self.next_character()
        if separator not in (",", end):
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, self._position)
        self._position += 1
        if separator == end:
            return False
        self.next_character()
        return True

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Return whether more text could make the value valid."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _LONGEST_TOKEN

    def _grow(self) -> None:
        """Drop what is before the position. Double what is left, so long values cost no more."""
        line = self.line
        start = self._text.rfind("\n", 0, self._position) + 1
        self._first_column = self._position - start + (0 if start else self._first_column)
        self._first_line, self._counted = line, 0
        parts = [self._text[self._position :]]
        size, wanted = len(parts[0]), 2 * len(parts[0]) + 1
        if size > self._file.in_memory:
            raise self._file.too_large_for_memory("one JSON value", "write JSON Lines, a JSON array or CSV")
        while size < wanted and not self._is_last:
            piece = next(self._pieces, "")
            self._is_last = not piece
            parts.append(piece)
            size += len(piece)
        self._text, self._position = "".join(parts), 0
