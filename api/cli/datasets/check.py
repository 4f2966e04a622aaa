"""Check a file of labelled texts: what it holds and what is wrong with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api.cli.datasets import reader
from api.cli.datasets.rows import FileRow, Table, kind
from api.cli.errors import UsageError

TEXT_FIELD: Final = "text"
LABEL_FIELDS: Final = ("sentiment", "label", "labels", "category")
_LONGEST_LABEL: Final = 200
_MOST_PLACES: Final = 5


@dataclass(frozen=True, slots=True)
class FileSample:
    text: str
    label: str
    row: FileRow


@dataclass(slots=True)
class Report:
    """What a file holds. `problems` must be repaired. `notices` are worth a look.

    Neither shows a value. `bad_rows` counts the rows with a problem.
    """

    text_field: str
    label_field: str
    samples: list[FileSample] = field(default_factory=list)
    bad_rows: int = 0
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, int]:
        return dict(sorted(Counter(sample.label for sample in self.samples).items()))


def check(table: Table, text_field: str | None = None, label_field: str | None = None) -> Report:
    """Return the report of a file.

    Raises:
        UsageError: The file has no text field or no single label field.
    """
    names = list(dict.fromkeys(name for row in table.rows for name in row.fields))
    report = Report(_text_field(table, names, text_field), _label_field(table, names, label_field))
    places: dict[str, list[str]] = {}
    for row in table.rows:
        text, label = row.fields.get(report.text_field), _label(row.fields.get(report.label_field))
        if row.problem:
            mistakes = [row.problem]
        else:
            mistakes = [*_text_mistakes(report.text_field, text), *_label_mistakes(report.label_field, row, label)]
        for mistake in mistakes:
            places.setdefault(mistake, []).append(row.place)
        if mistakes:
            report.bad_rows += 1
        elif isinstance(text, str) and label is not None:
            report.samples.append(FileSample(text, label, row))
    report.problems = [f"{_named(found)}: {mistake}" for mistake, found in places.items()]
    _add_notices(report)
    return report


def usable(path: Path, text_field: str | None, label_field: str | None, *, skip_bad_rows: bool) -> Report:
    """Read and check a file, and return its report.

    Raises:
        UsageError: The file cannot be read, has no usable row, or has a problem that may not be
            skipped.
    """
    report = check(reader.read(path, text_field or TEXT_FIELD), text_field, label_field)
    if report.problems and not skip_bad_rows:
        raise UsageError(f"{path}: {report.problems[0]}; see `flow-nexus data check`, or use --skip-bad-rows")
    if not report.samples:
        raise UsageError(f"{path} has no usable row; see `flow-nexus data check`")
    return report


def _text_field(table: Table, names: Sequence[str], chosen: str | None) -> str:
    name = chosen or TEXT_FIELD
    if name not in names:
        raise UsageError(f"{table.path} ({table.format}) has no field {name!r}; {_fields(names)}; name it with --text-field")
    return name


def _label_field(table: Table, names: Sequence[str], chosen: str | None) -> str:
    candidates = [name for name in ((chosen,) if chosen else LABEL_FIELDS) if name in names]
    if not candidates:
        wanted = repr(chosen) if chosen else " or ".join(LABEL_FIELDS)
        raise UsageError(f"{table.path} ({table.format}) has no field {wanted}; {_fields(names)}; name it with --label-field")
    if len(candidates) > 1:
        raise UsageError(f"{table.path} has several label fields: {', '.join(candidates)}; choose one with --label-field")
    return candidates[0]


def _fields(names: Sequence[str]) -> str:
    return f"its fields are {', '.join(names)}" if names else "it has no rows"


def _label(value: object) -> str | None:
    """Return a label as a word: integers and booleans are labels too.

    pandas writes integers as floats where a row has none.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return value.strip() if isinstance(value, str) else None


def _text_mistakes(name: str, text: object) -> list[str]:
    if text is None:
        return [f"there is no {name}"]
    if not isinstance(text, str):
        return [f"{name} is {kind(text)}; a string is wanted"]
    if not text.strip():
        return [f"{name} is blank"]
    return [f"{name} has a NUL character"] if "\x00" in text else []


def _label_mistakes(name: str, row: FileRow, label: str | None) -> list[str]:
    if row.fields.get(name) is None:
        return [f"there is no {name}"]
    if label is None:
        return [f"{name} is {kind(row.fields[name])}; one word is wanted"]
    if not label:
        return [f"{name} is blank"]
    if len(label) > _LONGEST_LABEL:
        return [f"{name} has more than {_LONGEST_LABEL} characters"]
    return [f"{name} has a NUL character"] if "\x00" in label else []


def _named(places: Sequence[str]) -> str:
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    return ", ".join(places[:_MOST_PLACES]) + more


def _add_notices(report: Report) -> None:
    labels = report.labels
    if report.samples and len(labels) == 1:
        report.notices.append("all samples have one label; alone, this file teaches nothing")
    by_spelling = Counter(label.casefold() for label in labels)
    alike = [label for label in labels if by_spelling[label.casefold()] > 1]
    if alike:
        report.notices.append(f"these labels differ only in upper and lower case: {', '.join(alike)}")
    repeated = len(report.samples) - len({sample.text for sample in report.samples})
    if repeated:
        report.notices.append(f"{repeated} texts repeat an earlier one")
    if len(labels) > max(20, len(report.samples) // 2):
        report.notices.append(f"there are {len(labels)} labels for {len(report.samples)} samples; is this the label field?")
