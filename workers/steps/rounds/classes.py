"""The classes of a training: the labels of all shards together, or the names that were given."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from api.domain.errors import FieldError
from api.domain.red_flags import MISSING_CLASSES, SIMILAR_LABELS, UNTRAINED_CLASSES, Flag
from api.domain.training_options import LabelNames
from workers.agent.protocol.training import ShardReport
from workers.steps.rounds.refusal import UNPROCESSABLE, RefusalError

_MOST_SHOWN: Final = 10


def agreed_labels(reports: Sequence[ShardReport], label_names: LabelNames | None = None) -> list[str]:
    """Return the classes, sorted: those of `label_names`, or the union over all shards.

    A shard may lack classes, because skew is normal in federated learning.

    Raises:
        RefusalError: a shard is unusable, or all samples of all shards have the same label.
    """
    unusable = [(report.node_id, report.problem) for report in reports if report.problem is not None]
    if unusable:
        errors = [FieldError("/dataset", f"{node_id}: {problem.message}") for node_id, problem in unusable]
        codes = {problem.code for _, problem in unusable}
        code = codes.pop() if len(codes) == 1 else "shards_unusable"
        raise RefusalError(UNPROCESSABLE, code, "; ".join(error.message for error in errors), errors)
    counts = _counts(reports)
    if len(counts) < 2:
        message = (
            f"All {counts.total()} samples of all {len(reports)} shards have the same label, so nothing can be learned. "
            "At least one shard needs samples of another class."
        )
        raise RefusalError(UNPROCESSABLE, "single_class", message, [FieldError("/dataset", message)])
    if label_names is None:
        return sorted(counts)
    return sorted(set(label_names.values() if isinstance(label_names, dict) else label_names))


def flags(reports: Sequence[ShardReport], labels: Sequence[str]) -> list[Flag]:
    """Return the red flags that the shards' counts give. They hold counts and class names only."""
    counts = _counts(reports)
    untrained = [label for label in labels if not counts[label]]
    trained = [label for label in labels if counts[label]]
    lacking = (_missing(report, trained, counts) for report in reports)
    return [*_untrained(untrained), *(flag for flag in lacking if flag is not None), *_similar(counts)]


def unknown(report: ShardReport, labels: Sequence[str]) -> str | None:
    """Return what is wrong with the labels of a shard that joins, as counts. None if they fit."""
    others = {label: count for label, count in report.labels.items() if label not in labels}
    if not others:
        return None
    return (
        f"{len(others)} of its {len(report.labels)} labels are no class of this training "
        f"({sum(others.values())} of {report.samples} samples); correct them, or begin a training with label_names"
    )


def joiner_flags(report: ShardReport, labels: Sequence[str]) -> list[Flag]:
    """Return the red flags of a shard that joins."""
    flag = _missing(report, labels, None)
    return [] if flag is None else [flag]


def _counts(reports: Iterable[ShardReport]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.labels)
    return counts


def _untrained(labels: Sequence[str]) -> list[Flag]:
    """Flag classes that no shard has: those of an earlier model, or of `label_names`."""
    if not labels:
        return []
    message = f"No shard has samples of {_listed(labels)}. These classes stay, and nothing new is learned about them."
    suggestion = "The model may forget them. Add samples of them to a shard, or train fewer epochs at a lower learning_rate."
    return [Flag(UNTRAINED_CLASSES, message, suggestion, None, None)]


def _missing(report: ShardReport, labels: Sequence[str], counts: Counter[str] | None) -> Flag | None:
    """Flag classes that a shard lacks. `counts` are those of all shards, None if not known."""
    missing = [label for label in labels if not report.labels.get(label)]
    if not missing:
        return None
    message = (
        f"{report.node_id} has samples of {len(labels) - len(missing)} of {len(labels)} classes. It lacks {_listed(missing)}."
    )
    suggestion = (
        "The training works with such skew. If the accuracy stays low, try more rounds with fewer local_epochs, "
        "or the strategy fedprox."
    )
    if counts is not None and all(counts[label] == count for label, count in report.labels.items()):
        suggestion = f"No other shard has a class of {report.node_id}. If these are other names of the same, use label_names."
    return Flag(MISSING_CLASSES, message, suggestion, report.node_id, None)


def _similar(counts: Counter[str]) -> list[Flag]:
    """Flag classes that differ only in case or spaces."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        spellings[" ".join(label.casefold().split())].append(label)
    groups = [group for group in spellings.values() if len(group) > 1]
    if not groups:
        return []
    shown = "; ".join(" and ".join(f"{label!r} ({counts[label]} samples)" for label in group) for group in groups[:_MOST_SHOWN])
    message = f"Classes differ only in case or spaces: {shown}. They are trained as different classes."
    suggestion = "If they mean the same, correct the labels, or map them to one name with label_names."
    return [Flag(SIMILAR_LABELS, message, suggestion, None, None)]


def _listed(labels: Sequence[str]) -> str:
    others = len(labels) - _MOST_SHOWN
    shown = ", ".join(map(repr, labels[:_MOST_SHOWN]))
    return f"{shown} and {others} more" if others > 0 else shown
