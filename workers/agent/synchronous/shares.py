"""How one pooled data set becomes each worker's share, and a share its part of every global batch. Pure functions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.runtime.errors import AgentError


def share(count: int, workers: int, place: int) -> NDArray[np.int64]:
    """Which of `count` samples are the worker's at `place`: every so manieth, so that shares differ by one sample at most."""
    return np.arange(place, count, workers)


def steps(count: int, batch_size: int) -> int:
    """Steps of an epoch over `count` pooled samples."""
    return -(-count // batch_size)


def batches(size: int, count: int, place: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """A share's parts of one epoch's `count` global batches, as indices into the share: shuffled by seed and place, and cut as
    evenly as can be. A part may be empty where batches are smaller than there are workers."""
    order = np.random.default_rng([*seed, place]).permutation(size)
    # The larger parts come last at every other worker, so that global batches are of nearly one size.
    cut = np.array_split(order, count)
    return cut[::-1] if place % 2 else cut


def packed(data: EncodedTexts, indices: NDArray[np.int64]) -> bytes:
    """Some samples as they travel: token ids and classes, no texts."""
    part = data.select(indices)
    if part.labels is None:
        raise AgentError("unlabelled", "these samples have no labels")
    return save({"ids": part.ids, "offsets": part.offsets, "labels": part.labels})


def unpacked(body: bytes, network: Network) -> EncodedTexts:
    """AgentError `bad_share` for a body that `packed` could not have made for this network."""
    try:
        found = load(body)
        ids, offsets, labels = found["ids"], found["offsets"], found["labels"]
    except (SafetensorError, KeyError, ValueError):
        raise AgentError("bad_share", "the samples have the wrong form") from None
    fits = len(labels) and len(offsets) == len(labels) + 1 and offsets[0] == 0 and offsets[-1] == len(ids)
    if not fits or (np.diff(offsets) < 0).any() or labels.min() < 0 or labels.max() >= len(network.spec.labels):
        raise AgentError("bad_share", "the samples have the wrong form")
    return EncodedTexts(ids, offsets, labels, network.pad_id, network.pad_left)
