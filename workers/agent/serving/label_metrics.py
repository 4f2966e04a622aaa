"""Macro precision, recall and F1 over the classes that occur in the true labels, and the
confusion matrix.
"""

from collections import Counter
from collections.abc import Sequence

from workers.agent.protocol.inference import MAX_CONFUSED_CLASSES, ConfusionMatrix


def label_metrics(labels: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Return accuracy, precision, recall and f1_score, each 0..1.

    A class that was never predicted has precision 0.
    """
    right = Counter(label for label, prediction in zip(labels, predicted, strict=True) if label == prediction)
    label_counts, predicted_counts = Counter(labels), Counter(predicted)
    precision = [right[label] / predicted_counts[label] if predicted_counts[label] else 0.0 for label in label_counts]
    recall = [right[label] / label_counts[label] for label in label_counts]
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    return {
        "accuracy": right.total() / len(labels),
        "precision": sum(precision) / len(label_counts),
        "recall": sum(recall) / len(label_counts),
        "f1_score": sum(f1) / len(label_counts),
    }


def confusion_matrix(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> ConfusionMatrix | None:
    """Count each pair of a true and a predicted class: shape (classes, classes).

    It has the classes that occur, in the order of `classes`. Return None if there are too many.
    """
    occurring = {*labels, *predicted}
    names = [name for name in classes if name in occurring]
    if len(names) > MAX_CONFUSED_CLASSES:
        return None
    pairs = Counter(zip(labels, predicted, strict=True))
    return ConfusionMatrix(labels=names, counts=[[pairs[true, answer] for answer in names] for true in names])
