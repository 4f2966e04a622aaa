"""Figures of a prediction on a labelled file, and notices about labels that could not be used.

What can be scored is scored. A notice tells what was left out, with counts and without values.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from workers.agent.datasets.shards import TextSamples
from workers.agent.protocol.inference import MAX_CONFUSED_CLASSES, ConfusionMatrix
from workers.agent.serving.label_metrics import confusion_matrix, label_metrics

_WHOLE: Final = re.compile(r"(-?\d+)\.0+")
_PROBLEMS: Final = {
    "unlabelled": "have no label",
    "label_type": "have a label that is no word, integer or boolean",
    "label_too_long": "have a label that is too long",
}


@dataclass(frozen=True, slots=True)
class Score:
    """The figures (0..1) of the samples that could be scored, and the notices."""

    figures: dict[str, float] = field(default_factory=dict)
    confusion: ConfusionMatrix | None = None
    notices: list[str] = field(default_factory=list)


def score(samples: TextSamples, predicted: Sequence[str], classes: Sequence[str]) -> Score:
    """Compare predictions with a file's labels.

    A label that differs from a class only in case, spaces or a decimal `.0` counts as that class.
    """
    total = len(samples)
    notices = [f"{samples.skipped} rows of the file cannot be used and were left out."] if samples.skipped else []
    if samples.label_problems["unlabelled"] == total:
        return Score(notices=[*notices, "The file has no labels, so accuracy, precision, recall and f1_score are null."])
    notices += [f"{count} of {total} samples {_PROBLEMS[code]}." for code, count in sorted(samples.label_problems.items())]
    true, scored, respelled = _pairs(samples, predicted, classes)
    if respelled:
        notices.append(
            f"{respelled} of {total} labels are spelled unlike the training's; they count as its class of that name."
        )
    if unknown := total - len(true) - sum(samples.label_problems.values()):
        notices.append(f"{unknown} of {total} labels are no class of the training. label_names of a training maps labels.")
    if not true:
        notices.append("No sample has a usable label, so accuracy, precision, recall and f1_score are null.")
        return Score(notices=notices)
    if len(true) < total:
        notices.append(f"The figures are over the other {len(true)} samples.")
    confusion = confusion_matrix(true, scored, classes)
    if confusion is None:
        notices.append(f"confusion_matrix is null: it has at most {MAX_CONFUSED_CLASSES} classes.")
    return Score(label_metrics(true, scored), confusion, notices)


def _pairs(samples: TextSamples, predicted: Sequence[str], classes: Sequence[str]) -> tuple[list[str], list[str], int]:
    """Return the true and the predicted classes of the samples that can be scored.

    The last value counts the labels that are spelled unlike their class.
    """
    by_spelling = _by_spelling(classes)
    true: list[str] = []
    scored: list[str] = []
    respelled = 0
    for label, prediction in zip(samples.labels, predicted, strict=True):
        known = label if label is None or label in classes else by_spelling.get(_spelling(label))
        if known is not None:
            true.append(known)
            scored.append(prediction)
            respelled += known != label
    return true, scored, respelled


def _by_spelling(classes: Sequence[str]) -> dict[str, str]:
    """Return spelling -> class, for the spellings that only one class has."""
    counts = Counter(map(_spelling, classes))
    return {_spelling(label): label for label in classes if counts[_spelling(label)] == 1}


def _spelling(label: str) -> str:
    folded = " ".join(label.casefold().split())
    whole = _WHOLE.fullmatch(folded)
    return whole[1] if whole else folded
