"""Token ids of many texts, and the padded batches made of them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

_BUCKET = 8


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Texts as token ids in one flat array, in memory or mapped from a file.

    Text i is `ids[offsets[i]:offsets[i + 1]]`. `labels` are class indices, or None.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    pad_id: int
    pad_left: bool = False
    activations: NDArray[np.float32] | None = None
    """Output of the frozen layers: fp32, shape (tokens of all texts, width); see freezing.py."""
    frozen_layers: int = 0
    """Without `activations`, their output is computed for each batch."""
    cut: int | None = None
    """Texts with more tokens than the model's max_length. None: it was not counted."""

    @classmethod
    def of(
        cls,
        texts: Sequence[Sequence[int]],
        labels: Sequence[int] | None,
        pad_id: int,
        *,
        pad_left: bool = False,
        cut: int | None = None,
    ) -> "EncodedTexts":
        """Return the flat form of a list of texts."""
        lengths = np.fromiter((len(ids) for ids in texts), np.int64, len(texts))
        flat = np.fromiter(chain.from_iterable(texts), np.int32, int(lengths.sum()))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        classes = np.asarray(labels, np.int64) if labels is not None else None
        return cls(flat, offsets, classes, pad_id, pad_left, cut=cut)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def select(self, indices: NDArray[np.int64]) -> "EncodedTexts":
        """Return the texts at `indices`, without activations."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._lengths_of(indices))])
        texts = [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in indices]
        ids = np.concatenate([np.empty(0, np.int32), *texts])
        return EncodedTexts(ids, offsets, None if self.labels is None else self.labels[indices], self.pad_id, self.pad_left)

    def _lengths_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.offsets[indices + 1] - self.offsets[indices]

    def digest(self) -> str:
        """Return the SHA-256 of ids, offsets and labels. It copies none of them."""
        digest = hashlib.sha256()
        for array in (self.ids, self.offsets, self.labels):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def first(self, count: int) -> "EncodedTexts":
        """Return the first `count` texts, without activations."""
        return self.select(np.arange(min(count, len(self))))

    def batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (ids, attention mask): int64, shape (texts, length of the longest text)."""
        width = int(self._lengths_of(indices).max())
        ids = np.full((len(indices), width), self.pad_id, np.int64)
        mask = np.zeros((len(indices), width), np.int64)
        for row, index in enumerate(indices):
            start, end = self.offsets[index], self.offsets[index + 1]
            columns = slice(width - (end - start), width) if self.pad_left else slice(0, end - start)
            ids[row, columns] = self.ids[start:end]
            mask[row, columns] = 1
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def targets(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Return the class indices: int64, shape (texts,)."""
        if self.labels is None:
            raise ValueError("these texts have no labels")
        return torch.from_numpy(self.labels[indices])


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """A worker's samples as token ids, split into a training part and a held-out part."""

    training: EncodedTexts
    held_out: EncodedTexts


def shuffled(lengths: NDArray[np.int64], batch_size: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the batches of one epoch, as indices. The same seed gives the same batches.

    Texts are shuffled. Then texts of similar length are put together, so that there is little
    padding. This is local: it sorts the texts of eight batches at a time. At last the batches are
    shuffled, so that the lengths come in random order.
    """
    random = np.random.default_rng(list(seed))
    order = random.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = order[start : start + batch_size * _BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def by_length(lengths: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield all indices in batches, shortest texts first.

    This needs the least padding in inference.
    """
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
