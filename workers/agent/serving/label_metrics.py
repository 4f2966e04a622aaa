"""Macro precision, recall and F1 over the classes that occur in the true labels."""

from collections import Counter
from collections.abc import Sequence


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
