"""A worker's shard: whether it can be used, and its texts where all of them are needed at once."""

from collections import Counter
from dataclasses import dataclass, field

from workers.agent.datasets.limits import check_disk, check_memory, most_in_memory
from workers.agent.datasets.reading import Reading
from workers.agent.datasets.samples import Sample, SampleStream
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.training import CheckShard, ShardReport
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

MIN_SAMPLES = 4
MAX_CLASSES = 10_000
# Between two checks that the samples fit into the memory.
_SAMPLES_AT_ONCE = 2**16


@dataclass(frozen=True, slots=True)
class TextSamples:
    """Texts and their labels, in file order, as `SampleStream` gives them."""

    texts: list[str]
    labels: list[str | None]
    files: int
    skipped: int = 0
    label_problems: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.texts)


def read(root: SandboxRoot, pattern: str, data_format: DataFormat = DataFormat(), *, labelled: bool = True) -> TextSamples:
    """Read every sample into memory.

    Raises:
        DataError: `file_too_large` for texts that do not fit, and the errors of `SampleStream`.
    """
    stream, most = SampleStream(root, pattern, data_format, labelled=labelled), most_in_memory()
    samples: list[Sample] = []
    size = 0
    for sample in stream:
        samples.append(sample)
        size += len(sample.text)
        if size > most:
            message = f"the texts have more than {most} characters, which are read at once (limit: memory); give smaller files"
            raise DataError("file_too_large", message)
    return TextSamples(
        [sample.text for sample in samples],
        [sample.label for sample in samples],
        stream.files,
        stream.skipped,
        stream.label_problems,
    )


def check(root: SandboxRoot, request: CheckShard, node_id: str, reading: Reading | None = None) -> ShardReport:
    """Check whether a shard can be used for training. The report has counts only.

    It keeps no text. Memory and disk are checked while it reads, so that a refusal comes early.
    """
    try:
        return _checked(root, request, node_id, Reading() if reading is None else reading)
    except DataError as error:
        return ShardReport(node_id=node_id, problem=error.problem)


def _checked(root: SandboxRoot, request: CheckShard, node_id: str, reading: Reading) -> ShardReport:
    stream = SampleStream(root, request.dataset, request.data_format, labelled=request.labelled, reading=reading)
    check_disk(root.folder, reading.bytes_total)
    counts: Counter[str] = Counter()
    first, count, has_other_text = "", 0, False
    for text, label in stream:
        if not count:
            first = text
        elif not has_other_text:
            has_other_text = text != first
        if label is not None:
            counts[label] += 1
            if len(counts) > MAX_CLASSES:
                message = f"more than {MAX_CLASSES} labels are different; name the field with the labels in label_field"
                raise DataError("too_many_classes", message)
        count += 1
        if not count % _SAMPLES_AT_ONCE:
            check_memory(count)
    report = ShardReport(
        node_id=node_id,
        files=stream.files,
        samples=count,
        skipped=stream.skipped,
        labels=dict(sorted(counts.items())),
    )
    problem = None
    if request.labelled and not has_other_text:
        problem = DataError("too_few_samples", "all samples have the same text, so none can be held out")
    elif request.labelled and count < MIN_SAMPLES:
        problem = DataError("too_few_samples", f"{count} samples are too few; {MIN_SAMPLES} are needed")
    return report.model_copy(update={"problem": problem.problem}) if problem else report
