"""Macro precision, recall and F1 over the classes that occur in the truth."""

from collections import Counter
from collections.abc import Sequence


def figures(truth: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """accuracy, precision, recall and f1_score, each 0..1. A class that was never said has precision 0."""
    right = Counter(label for label, answer in zip(truth, said, strict=True) if label == answer)
    occurs, answered = Counter(truth), Counter(said)
    precision = [right[label] / answered[label] if answered[label] else 0.0 for label in occurs]
    recall = [right[label] / occurs[label] for label in occurs]
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    return {
        "accuracy": right.total() / len(truth),
        "precision": sum(precision) / len(occurs),
        "recall": sum(recall) / len(occurs),
        "f1_score": sum(f1) / len(occurs),
    }
