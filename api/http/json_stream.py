"""Send a large JSON text in pieces, with its figures rounded, without parsing it."""

import re
from collections.abc import Iterator
from typing import Final

from api.domain.figures import rounded

_PIECE: Final = 200_000
# The value of a field. Inside a JSON text the quote before the colon would have a backslash.
_LONG_NUMBER: Final = re.compile(r'(?<!\\)": (-?\d+\.\d{5,})')


def json_pieces(text: str) -> Iterator[str]:
    """Yield the text in pieces that end after an object, so that no number is cut."""
    start = 0
    while start < len(text):
        end = text.find("}", start + _PIECE) + 1 or len(text)
        yield text[start:end]
        start = end


def round_numbers(piece: str) -> str:
    """Return a piece of JSON in which the numbers that are values of fields are rounded."""
    return _LONG_NUMBER.sub(lambda match: f'": {rounded(float(match[1]))!r}', piece)
