"""Token ids of many texts, and the padded batches made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_BUCKET = 8


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Texts as token ids, flat: text i is ids[offsets[i]:offsets[i + 1]]. `labels` are class indices, or None."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    pad_id: int
    pad_left: bool = False
    activations: NDArray[np.float32] | None = None
    """What frozen layers make of each token, shape (tokens of all texts, width); see freezing.py."""
    frozen_layers: int = 0

    @classmethod
    def of(
        cls, texts: Sequence[Sequence[int]], labels: Sequence[int] | None, pad_id: int, *, pad_left: bool = False
    ) -> "EncodedTexts":
        lengths = np.fromiter((len(ids) for ids in texts), np.int64, len(texts))
        flat = np.fromiter((i for ids in texts for i in ids), np.int32, int(lengths.sum()))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(flat, offsets, np.asarray(labels, np.int64) if labels is not None else None, pad_id, pad_left)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def take(self, indices: NDArray[np.int64]) -> "EncodedTexts":
        texts: Any = [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in indices]
        labels: Any = None if self.labels is None else self.labels[indices]
        return EncodedTexts.of(texts, labels, self.pad_id, pad_left=self.pad_left)

    def first(self, count: int) -> "EncodedTexts":
        return self.take(np.arange(min(count, len(self))))

    def batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, attention mask), both int64 of shape (texts, longest text among them)."""
        width = int(self.lengths[indices].max())
        ids = np.full((len(indices), width), self.pad_id, np.int64)
        mask = np.zeros((len(indices), width), np.int64)
        for row, index in enumerate(indices):
            start, end = self.offsets[index], self.offsets[index + 1]
            place = slice(width - (end - start), width) if self.pad_left else slice(0, end - start)
            ids[row, place] = self.ids[start:end]
            mask[row, place] = 1
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def targets(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Class indices, int64 of shape (texts,)."""
        if self.labels is None:
            raise ValueError("these texts have no labels")
        return torch.from_numpy(self.labels[indices])


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """A worker's samples as token ids."""

    training: EncodedTexts
    held_out: EncodedTexts


def shuffled(lengths: NDArray[np.int64], batch_size: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """One epoch's batches, of indices: shuffled, then texts of like length together so that little is padding.

    Length-bucketing is local (eight batches are sorted at a time) and the batches are shuffled again, so that lengths come
    in no order. The same seed gives the same batches.
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
    """Every index once, shortest texts first: the least padding, for inference."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
