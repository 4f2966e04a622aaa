"""The text and the label of a row, and why a row has none. No message quotes a value."""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from workers.agent.datasets.rows import Row, RowProblem
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.storable import clean_text
from workers.agent.runtime.errors import DataError

MAX_TEXT_CHARS = 20_000
MAX_LABEL_CHARS = 200
LABEL_FIELDS: Final = ("sentiment", "label", "labels", "category")
_MOST_FIELDS_SHOWN = 8
# Other keys may be data. Example: an object that maps texts to labels.
_FIELD_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


def clean(value: str) -> str:
    """Return a text in the one form that all parts of the system can store and compare.

    JSON allows NUL and half a surrogate pair. They become U+FFFD. The text is normalised to NFC
    and trimmed.
    """
    return unicodedata.normalize("NFC", clean_text(value)).strip().strip("\ufeff")


class LabelField:
    """The field that holds the labels of a file. It is known from the first row that has it."""

    def __init__(self, data_format: DataFormat, name: str) -> None:
        """Messages show `name` for the file."""
        self.field = data_format.label_field
        self._name = name
        fields = () if self.field is not None else LABEL_FIELDS
        self._candidates = [field for field in fields if field != data_format.text_field]
        self._seen: set[str] = set()

    def see(self, row: Row) -> None:
        """Look for the field in a row.

        Raises:
            DataError: `ambiguous_label_field`.
        """
        if not isinstance(row.value, dict):
            return
        found = [field for field in self._candidates if field in row.value]
        if found and not self._seen.issuperset(found):
            self._seen.update(found)
            names = [field for field in self._candidates if field in self._seen]
            if len(names) > 1:
                message = f"{self._name} has the fields {' and '.join(names)}; name the one with the labels in label_field"
                raise DataError("ambiguous_label_field", message)
            self.field = names[0]


def text_of(row: Row, field: str) -> str | RowProblem:
    """Return the text of a row, or why it has none."""
    if row.problem is not None:
        return row.problem
    if not isinstance(row.value, dict):
        what = f"the row is {_type_of(row.value)}, not an object"
        return RowProblem("missing_text", what, f"write an object with {field} and a label")
    value = row.value.get(field)
    if isinstance(value, str) and (text := clean(value)):
        return text[:MAX_TEXT_CHARS]
    remedy = "write a string that is not empty, or name the field with the texts in text_field"
    return RowProblem("missing_text", _what(row.value, field), remedy)


def label_of(row: Row, field: str | None, names: Mapping[str, str] | None, *, strict: bool = True) -> str | RowProblem:
    """Return the label of a row, or why it has none.

    `names` maps labels to class names. Without `strict` a label that it lacks stays as it is.
    """
    values = row.value if isinstance(row.value, dict) else {}
    if field is None:
        what = f"there is no field {', '.join(LABEL_FIELDS[:-1])} or {LABEL_FIELDS[-1]}"
        return RowProblem("unlabelled", what, "write a label, or name the field with the labels in label_field")
    value = values.get(field)
    label = _label(value)
    if label is None:
        code = "unlabelled" if _is_missing(value) else "label_type"
        remedy = "write one word, integer or boolean, or name another field in label_field"
        return RowProblem(code, _what(values, field), remedy)
    if len(label) > MAX_LABEL_CHARS:
        what = f"{field} has {len(label)} characters; a label has at most {MAX_LABEL_CHARS}"
        return RowProblem("label_too_long", what, "name the field with the labels in label_field")
    if names is None:
        return label
    if label not in names and strict:
        return RowProblem("unknown_label", f"{field} holds a label that label_names does not have", "add it to label_names")
    return names.get(label, label)


def class_names(data_format: DataFormat) -> dict[str, str] | None:
    """Return label -> class name; None without `label_names`. A class name is a label, too."""
    names = data_format.label_names
    if names is None:
        return None
    pairs = names.items() if isinstance(names, dict) else ((str(index), label) for index, label in enumerate(names))
    given = {clean(label): clean(class_name) for label, class_name in pairs}
    return {class_name: class_name for class_name in given.values()} | given


def fields_of(row: Row) -> str:
    """Return the fields of a row and their types, as words."""
    if not isinstance(row.value, dict):
        return "no fields"
    shown = [field for field in row.value if isinstance(field, str) and _FIELD_NAME.fullmatch(field)][:_MOST_FIELDS_SHOWN]
    parts = [f"{field} ({_type_of(row.value[field], article=False)})" for field in shown]
    if others := len(row.value) - len(shown):
        parts.append(f"{others} other field{'s' if others > 1 else ''}")
    return ", ".join(parts) or "no fields"


def _label(value: object) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if value.is_integer():  # pandas turns integers into floats where a row has none
            return str(int(value))
        case str():
            return clean(value) or None
        case _:
            return None


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not clean(value)) or (isinstance(value, float) and math.isnan(value))


def _what(values: Mapping[str, object], field: str) -> str:
    return f"{field} is {_type_of(values[field])}" if field in values else f"{field} is missing"


def _type_of(value: object, *, article: bool = True) -> str:
    """Return the JSON name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            kind = "a boolean"
        case int():
            kind = "an integer"
        case float():
            kind = "NaN" if math.isnan(value) else "a number"
        case str():
            kind = "a string" if value.strip() else "an empty string"
        case list():
            kind = "a list"
        case dict():
            kind = "an object"
        case _:
            kind = f"a {type(value).__name__}"
    return kind if article else kind.removeprefix("an ").removeprefix("a ")
