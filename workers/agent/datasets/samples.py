"""The labelled texts of a dataset, one after the other, and why some rows are none."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from workers.agent.datasets.fields import LabelField, class_names, fields_of, label_of, text_of
from workers.agent.datasets.file_bytes import DataFile
from workers.agent.datasets.files import rows_of
from workers.agent.datasets.limits import most_in_memory
from workers.agent.datasets.reading import Reading
from workers.agent.datasets.rows import Row, RowProblem
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

_COUNTED: Final = {"missing_text": "samples have no text", "unlabelled": "samples have no label"}


class Sample(NamedTuple):
    """A text and its label. A label is None only when labels were not requested."""

    text: str
    label: str | None


@dataclass(frozen=True, slots=True)
class _BadRow:
    """A row that cannot be used: its file, the row, the reason, and the file's label field."""

    name: str
    row: Row
    problem: RowProblem
    label_field: LabelField


class SampleStream:
    """The samples of the files that `pattern` names, in file order. Iterate over it once.

    Texts are cut at MAX_TEXT_CHARS. Errors name file, row and types, never content. After the
    iteration `skipped` counts rows that could not be used. `label_problems` counts samples without
    a usable label, by code.
    """

    def __init__(
        self,
        root: SandboxRoot,
        pattern: str,
        data_format: DataFormat = DataFormat(),
        *,
        labelled: bool = True,
        reading: Reading | None = None,
    ) -> None:
        """Raises: DataError `no_match` or `unreadable_file`."""
        paths = root.files(pattern)
        if not paths:
            raise DataError("no_match", "no file matches the dataset's path")
        self.reading = Reading() if reading is None else reading
        self.skipped = 0
        self.label_problems: Counter[str] = Counter()
        self._format = data_format
        self._labelled = labelled
        self._names = class_names(data_format)
        self._bad: Counter[str] = Counter()
        self._first_bad: _BadRow | None = None
        self._files: list[DataFile] = []
        size, in_memory = 0, most_in_memory()
        for path in paths:
            file = DataFile(path, root.shown(path), root.largest_file, in_memory, self.reading, size)
            self._files.append(file)
            size += file.size
        self.reading.bytes_total = size

    @property
    def files(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples.

        Raises:
            DataError: `file_too_large`, `unreadable_file`, `unreadable_json`, `empty`,
            `missing_text`, `ambiguous_label_field`. Without `on_bad_rows` skip also
            `unreadable_table`. With `labelled` also `unlabelled`, `label_type`, `label_too_long`,
            `unknown_label`.
        """
        count = 0
        for file in self._files:
            label_field = LabelField(self._format, file.name)
            for row in rows_of(file, self._format.text_field):
                self.reading.rows += 1
                label_field.see(row)
                sample = self._sample(row, label_field)
                if isinstance(sample, Sample):
                    count += 1
                    yield sample
                    continue
                self._bad[sample.code] += 1
                self._first_bad = self._first_bad or _BadRow(file.name, row, sample, label_field)
        self.skipped = self._bad.total()
        if self._first_bad is not None and (self._format.on_bad_rows == "refuse" or not count):
            raise self._refusal(self._first_bad, count + self.skipped)
        if not count:
            raise DataError("empty", "the dataset holds no samples")

    def _sample(self, row: Row, label_field: LabelField) -> Sample | RowProblem:
        text = text_of(row, self._format.text_field)
        if isinstance(text, RowProblem):
            return text
        label = label_of(row, label_field.field, self._names, strict=self._labelled)
        if isinstance(label, str):
            return Sample(text, label)
        if self._labelled:
            return label
        self.label_problems[label.code] += 1
        return Sample(text, None)

    def _refusal(self, bad: _BadRow, total: int) -> DataError:
        """Describe the first bad row, and count those with the same problem."""
        row, problem = bad.row, bad.problem
        if problem.code == "unlabelled":
            # The field may have been found in a later row.
            again = label_of(row, bad.label_field.field, self._names)
            problem = again if isinstance(again, RowProblem) else problem
        same = self._bad[problem.code]
        counted = f"{same} of {total} {_COUNTED.get(problem.code, 'rows have this problem')}"
        others = f", and {self.skipped - same} rows have other problems" if self.skipped > same else ""
        found = "" if row.problem is not None else f" Found: {fields_of(row)}."
        message = (
            f"{bad.name}, {row.unit} {row.number}: {problem.what}.{found} Instead: {problem.remedy}. "
            f"{counted}{others}; on_bad_rows skip leaves such rows out."
        )
        return DataError(problem.code, message)
