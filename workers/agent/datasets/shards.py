"""Labelled texts in the sandbox, read from files of any known format."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workers.agent.datasets.fields import class_names, fields_of, find_label_field, label_of, text_of
from workers.agent.datasets.files import rows_of
from workers.agent.datasets.rows import Row, RowProblem
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.training import HELD_OUT_FRACTION, CheckShard, ShardReport
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

MIN_SAMPLES = 4
MAX_CLASSES = 10_000


@dataclass(frozen=True, slots=True)
class TextSamples:
    """Texts and their labels, in file order.

    A label is None only when labels were not requested. `skipped` counts rows that could not be
    used. `label_problems` counts samples without a usable label, by code.
    """

    texts: list[str]
    labels: list[str | None]
    files: int
    skipped: int = 0
    label_problems: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int]) -> "TextSamples":
        """Return the samples at `indices`."""
        return TextSamples([self.texts[i] for i in indices], [self.labels[i] for i in indices], self.files)


@dataclass(frozen=True, slots=True)
class _BadRow:
    """A row that cannot be used: its file, the row, and the reason."""

    name: str
    row: Row
    problem: RowProblem


_COUNTED = {"missing_text": "samples have no text", "unlabelled": "samples have no label"}


def read(root: SandboxRoot, pattern: str, data_format: DataFormat = DataFormat(), *, labelled: bool = True) -> TextSamples:
    """Read every sample of the files that `pattern` names.

    Texts are cut at MAX_TEXT_CHARS. Errors name file, row and types, never content.

    Raises:
        DataError: `no_match`, `file_too_large`, `unreadable_file`, `unreadable_json`, `empty`,
        `missing_text`, `ambiguous_label_field`. Without `on_bad_rows` skip also
        `unreadable_table`. With `labelled` also `unlabelled`, `label_type`, `label_too_long`,
        `unknown_label`.
    """
    files = root.files(pattern)
    if not files:
        raise DataError("no_match", "no file matches the dataset's path")
    samples, bad = TextSamples([], [], len(files)), []
    names = class_names(data_format)
    for path in files:
        name = root.shown(path)
        rows = list(rows_of(path, name, data_format.text_field))
        label_field = find_label_field(rows, data_format, name)
        for row in rows:
            text = text_of(row, data_format.text_field)
            label = label_of(row, label_field, names, strict=labelled)
            if isinstance(text, RowProblem):
                bad.append(_BadRow(name, row, text))
            elif isinstance(label, str):
                samples.texts.append(text)
                samples.labels.append(label)
            elif labelled:
                bad.append(_BadRow(name, row, label))
            else:
                samples.texts.append(text)
                samples.labels.append(None)
                samples.label_problems[label.code] += 1
    if bad and (data_format.on_bad_rows == "refuse" or not samples.texts):
        raise _refusal(bad, len(samples) + len(bad))
    if not samples.texts:
        raise DataError("empty", "the dataset holds no samples")
    return replace(samples, skipped=len(bad))


def _refusal(bad: Sequence[_BadRow], total: int) -> DataError:
    """Describe the first bad row, and count those with the same problem."""
    first = bad[0]
    row, problem = first.row, first.problem
    same = sum(other.problem.code == problem.code for other in bad)
    counted = f"{same} of {total} {_COUNTED.get(problem.code, 'rows have this problem')}"
    others = f", and {len(bad) - same} rows have other problems" if len(bad) > same else ""
    found = "" if row.problem is not None else f" Found: {fields_of(row)}."
    message = (
        f"{first.name}, {row.unit} {row.number}: {problem.what}.{found} Instead: {problem.remedy}. "
        f"{counted}{others}; on_bad_rows skip leaves such rows out."
    )
    return DataError(problem.code, message)


def split(samples: TextSamples) -> tuple[TextSamples, TextSamples]:
    """Split samples into training and held-out samples.

    Every tenth distinct text is held out, in the order of label and of the text's hash. So the
    split is stratified, and it does not depend on file order or seeds. A repeated text is never on
    both sides. From two distinct texts on, at least one is held out.
    """
    indices_of_text: dict[str, list[int]] = {}
    for index, text in enumerate(samples.texts):
        indices_of_text.setdefault(text, []).append(index)
    label = {text: min(samples.labels[index] or "" for index in indices) for text, indices in indices_of_text.items()}
    order = sorted(indices_of_text, key=lambda text: (label[text], hashlib.sha256(text.encode()).digest()))
    step = round(1 / HELD_OUT_FRACTION)
    chosen = order[step // 2 :: step] or order[1:2]
    held_out = {index for text in chosen for index in indices_of_text[text]}
    training = [index for index in range(len(samples)) if index not in held_out]
    return samples.select(training), samples.select(sorted(held_out))


def check(root: SandboxRoot, request: CheckShard, node_id: str) -> ShardReport:
    """Check whether a shard can be used for training. The report has counts only."""
    try:
        samples = read(root, request.dataset, request.data_format, labelled=request.labelled)
    except DataError as error:
        return ShardReport(node_id=node_id, problem=error.problem)
    counts = Counter(label for label in samples.labels if label is not None)
    if len(counts) > MAX_CLASSES:
        message = f"{len(counts)} different labels are more than {MAX_CLASSES}; name the field with the labels in label_field"
        return ShardReport(node_id=node_id, problem=DataError("too_many_classes", message).problem)
    report = ShardReport(
        node_id=node_id,
        files=samples.files,
        samples=len(samples),
        skipped=samples.skipped,
        labels=dict(sorted(counts.items())),
    )
    problem = None
    if request.labelled and len(set(samples.texts)) == 1:
        problem = DataError("too_few_samples", "all samples have the same text, so none can be held out")
    elif request.labelled and len(samples) < MIN_SAMPLES:
        problem = DataError("too_few_samples", f"{len(samples)} samples are too few; {MIN_SAMPLES} are needed")
    return report.model_copy(update={"problem": problem.problem}) if problem else report
