"""The boundary at which every message becomes plain JSON that the control plane can store.

Postgres stores no NUL, no lone surrogates, no NaN or infinity, and no integer over 64 bits. UTF-8
cannot encode lone surrogates, which also come from file names that are not UTF-8. A character that
cannot be stored becomes U+FFFD, and a number that cannot be stored becomes null.
"""

import json
import math
import re
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

REPLACEMENT = "\ufffd"
T = TypeVar("T", bound=BaseModel)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Whether the slow path is needed: an escaped or raw NUL, an escaped surrogate, a NaN, an infinity
# or a large number. A text may contain the same characters, which only costs time.
_SUSPECT = re.compile(rb"\x00|\\u0000|\\u[dD][89a-fA-F]|[\[:,]\s*-?(?:NaN|Infinity)|(?<![.0-9])[0-9]{19}|[0-9][eE]\+?[0-9]{3}")
_LARGEST_INTEGER = 2**63 - 1


def clean_text(text: str) -> str:
    """Replace each character that cannot be stored by U+FFFD."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def dump(message: BaseModel) -> str:
    """Return a message as JSON. Characters that UTF-8 cannot encode are replaced."""
    try:
        return message.model_dump_json()
    except PydanticSerializationError:
        return json.dumps(_clean(message.model_dump()))


def load(content: bytes, kind: type[T]) -> T:
    """Parse a message as JSON, with everything replaced that cannot be stored.

    Raises:
        ValueError: the content is not JSON of this form.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode(errors="replace")
    else:
        if _SUSPECT.search(content) is None:
            return kind.model_validate_json(content)
    try:
        value = json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("the message is nested too deep") from None
    # JSON and not Python values: pydantic then reads lists as tuples, and texts as enumerations.
    return kind.model_validate_json(json.dumps(_clean(value)))


def _clean(value: Any) -> Any:
    match value:
        case str():
            return clean_text(value)
        case float():
            return value if math.isfinite(value) else None
        case int():
            return value if abs(value) <= _LARGEST_INTEGER else None
        case dict():
            return {clean_text(str(name)): _clean(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_clean(entry) for entry in value]
        case _:
            return value
