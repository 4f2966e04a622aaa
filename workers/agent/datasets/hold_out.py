"""Which samples of a shard are held out. It needs hashes and classes, no texts."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.agent.protocol.training import HELD_OUT_FRACTION

# Two 64-bit words of a text's SHA-256, the first bytes first. Equal words mean the same text.
DIGEST_BYTES: Final = 16
_STEP: Final = round(1 / HELD_OUT_FRACTION)
_SAMPLES_AT_ONCE: Final = 2**21


def digest(text: str) -> bytes:
    """Return the bytes of a text's SHA-256 that the split uses."""
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


def held_out(digests: NDArray[np.uint64], ranks: NDArray[np.int64], at_once: int = _SAMPLES_AT_ONCE) -> NDArray[np.bool_]:
    """Return which samples are held out.

    Every tenth distinct text is held out, in the order of label and of the text's hash. So the
    split is stratified, and it does not depend on file order or seeds. A repeated text is never on
    both sides; its label is the first of its labels. From two distinct texts on, at least one is
    held out.

    `digests` has shape (samples, 2). `ranks` are the places of the labels in their sorted order.
    About `at_once` samples are sorted at a time.
    """
    chosen = np.zeros(len(ranks), np.bool_)
    classes = int(ranks.max(initial=0)) + 1
    bits = max(0, (len(ranks) // at_once).bit_length())
    distinct = np.array([_Bucket.of(digests, ranks, bits, place).counts(classes) for place in range(1 << bits)])
    # The first place of each class in each bucket, in the order of all distinct texts.
    by_class = distinct.sum(0)
    first_places = np.cumsum(by_class) - by_class + np.cumsum(distinct, 0) - distinct
    has_few = distinct.sum() <= _STEP // 2
    for place in range(1 << bits):
        bucket = _Bucket.of(digests, ranks, bits, place)
        places = first_places[place][bucket.labels] + bucket.places_in_class(classes)
        is_chosen = places == 1 if has_few else places % _STEP == _STEP // 2
        chosen[bucket.samples] = is_chosen[bucket.text_of_sample]
    return chosen


@dataclass(frozen=True, slots=True)
class _Bucket:
    """The samples whose hashes begin with the same bits.

    `text_of_sample` has for each of `samples` its distinct text, by the order of the hashes.
    `labels` has the first label of each distinct text.
    """

    samples: NDArray[np.int64]
    text_of_sample: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, digests: NDArray[np.uint64], ranks: NDArray[np.int64], bits: int, place: int) -> "_Bucket":
        samples = np.arange(len(ranks))
        if bits:
            samples = np.flatnonzero(digests[:, 0] >> np.uint64(64 - bits) == place)
        high, low, labels = digests[samples, 0], digests[samples, 1], ranks[samples]
        order = np.lexsort((labels, low, high))
        high, low = high[order], low[order]
        is_first = np.ones(len(order), np.bool_)
        is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return cls(samples[order], np.cumsum(is_first) - 1, labels[order][is_first])

    def counts(self, classes: int) -> NDArray[np.int64]:
        """Return the number of distinct texts of each class."""
        return np.bincount(self.labels, minlength=classes)

    def places_in_class(self, classes: int) -> NDArray[np.int64]:
        """Return the place of each distinct text among those of its class."""
        counts = self.counts(classes)
        order = np.argsort(self.labels, kind="stable")
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places
