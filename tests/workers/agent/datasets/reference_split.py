"""The split of a shard written with all its texts in memory, as a reference for `hold_out`."""

import hashlib
from collections.abc import Sequence

from workers.agent.datasets.shards import TextSamples
from workers.agent.protocol.training import HELD_OUT_FRACTION


def select(samples: TextSamples, indices: Sequence[int]) -> TextSamples:
    """Return the samples at `indices`."""
    return TextSamples([samples.texts[i] for i in indices], [samples.labels[i] for i in indices], samples.files)


def split(samples: TextSamples) -> tuple[TextSamples, TextSamples]:
    """Return training and held-out samples."""
    indices_of_text: dict[str, list[int]] = {}
    for index, text in enumerate(samples.texts):
        indices_of_text.setdefault(text, []).append(index)
    label = {text: min(samples.labels[index] or "" for index in indices) for text, indices in indices_of_text.items()}
    order = sorted(indices_of_text, key=lambda text: (label[text], hashlib.sha256(text.encode()).digest()))
    step = round(1 / HELD_OUT_FRACTION)
    chosen = order[step // 2 :: step] or order[1:2]
    held_out = {index for text in chosen for index in indices_of_text[text]}
    training = [index for index in range(len(samples)) if index not in held_out]
    return select(samples, training), select(samples, sorted(held_out))
