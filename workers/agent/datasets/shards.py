"""Labelled texts in the sandbox: JSON arrays or JSON Lines of {"text", "sentiment"}."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.agent.protocol.storable import clean_text
from workers.agent.protocol.training import HELD_OUT_FRACTION, CheckShard, ShardReport
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

MAX_FILE_BYTES = 2**30
MAX_TEXT_CHARS = 20_000
MIN_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class TextSamples:
    """Texts and their labels, in file order.

    A label is None only when labels were not requested.
    """

    texts: list[str]
    labels: list[str | None]
    files: int

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int]) -> "TextSamples":
        """Return the samples at `indices`."""
        return TextSamples([self.texts[i] for i in indices], [self.labels[i] for i in indices], self.files)


def read(root: SandboxRoot, pattern: str, *, labelled: bool = True) -> TextSamples:
    """Read every sample of the files that `pattern` names.

    Texts are cut at MAX_TEXT_CHARS. Errors name file, line and count, never content.

    Raises:
        DataError: `no_match`, `file_too_large`, `unreadable_json`, `empty`, `missing_text`,
        `unlabelled`.
    """
    files = root.files(pattern)
    if not files:
        raise DataError("no_match", "no file matches the dataset's path")
    rows = [row for path in files for row in _rows(path, root.shown(path))]
    if not rows:
        raise DataError("empty", "the dataset holds no samples")
    texts = [_text_field(row, "text") for row in rows]
    labels = [_text_field(row, "sentiment") for row in rows]
    if missing := texts.count(None):
        raise DataError("missing_text", f"{missing} of {len(rows)} samples have no text")
    if labelled and (missing := labels.count(None)):
        raise DataError("unlabelled", f"{missing} of {len(rows)} samples have no label")
    return TextSamples([text[:MAX_TEXT_CHARS] for text in texts if text is not None], labels, len(files))


def _rows(path: Path, name: str) -> Iterator[Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError("file_too_large", f"{name} is larger than {MAX_FILE_BYTES} bytes")
        content = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("unreadable_json", f"{name} is not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise DataError("unreadable_json", f"{name} cannot be read ({type(error).__name__})") from None
    if content.lstrip()[:1] == "[":
        yield from _parse(content, name, 1)
        return
    # splitlines() also cuts at separators that JSON allows inside a text.
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield _parse(line, name, number)


def _parse(content: str, name: str, line: int) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1}, column {error.colno}"
    except (ValueError, RecursionError):  # a number too long or a nesting too deep for the parser
        where = f"line {line}"
    raise DataError("unreadable_json", f"{name} is not valid JSON at {where}")


def _text_field(row: Any, key: str) -> str | None:
    value = row.get(key) if isinstance(row, dict) else None
    # JSON allows NUL and half a surrogate pair, which nothing can store. They become U+FFFD.
    return clean_text(value).strip() or None if isinstance(value, str) else None


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
        samples = read(root, request.dataset, labelled=request.labelled)
    except DataError as error:
        return ShardReport(node_id=node_id, problem=error.problem)
    counts = Counter(label for label in samples.labels if label is not None)
    report = ShardReport(node_id=node_id, files=samples.files, samples=len(samples), labels=dict(sorted(counts.items())))
    problem = None
    if request.labelled and len(counts) < 2:
        problem = DataError("single_class", "all samples have the same label")
    elif request.labelled and len(set(samples.texts)) == 1:
        problem = DataError("too_few_samples", "all samples have the same text, so none can be held out")
    elif request.labelled and len(samples) < max(MIN_SAMPLES, 2 * len(counts)):
        problem = DataError("too_few_samples", f"{len(samples)} samples are too few for {len(counts)} labels")
    return report.model_copy(update={"problem": problem.problem}) if problem else report
