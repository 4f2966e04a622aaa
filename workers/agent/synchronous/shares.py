"""How pooled data is divided into shares, and each share into parts of global batches.

Pure functions, without input and output.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.runtime.errors import AgentError


def share(count: int, workers: int, place: int) -> NDArray[np.int64]:
    """Return the indices of one worker's share of `count` samples.

    A share is every `workers`-th sample, starting at `place`. Shares differ by one sample at most.
    """
    return np.arange(place, count, workers)


def steps(count: int, batch_size: int) -> int:
    """Return the steps of an epoch over `count` pooled samples."""
    return -(-count // batch_size)


def batches(size: int, count: int, place: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return a share's parts of one epoch's `count` global batches, as indices into the share.

    The share is shuffled by `seed` and `place` and cut as evenly as possible. A part is empty if a
    batch has fewer samples than there are workers.
    """
    order = np.random.default_rng([*seed, place]).permutation(size)
    # The larger parts come last at every second worker, so that all global batches have nearly the
    # same size.
    parts = np.array_split(order, count)
    return parts[::-1] if place % 2 else parts


def packed(data: EncodedTexts, indices: NDArray[np.int64]) -> bytes:
    """Return samples as they are sent: token ids and classes, no texts."""
    part = data.select(indices)
    if part.labels is None:
        raise AgentError("unlabelled", "these samples have no labels")
    return save({"ids": part.ids, "offsets": part.offsets, "labels": part.labels})


def unpacked(body: bytes, network: Network) -> EncodedTexts:
    """Return the samples of a `packed` body.

    Raises: AgentError `bad_share` for a body that does not fit this network.
    """
    try:
        arrays = load(body)
        ids, offsets, labels = arrays["ids"], arrays["offsets"], arrays["labels"]
    except (SafetensorError, KeyError, ValueError):
        raise AgentError("bad_share", "the samples have the wrong form") from None
    fits = len(labels) and len(offsets) == len(labels) + 1 and offsets[0] == 0 and offsets[-1] == len(ids)
    if not fits or (np.diff(offsets) < 0).any() or labels.min() < 0 or labels.max() >= len(network.spec.labels):
        raise AgentError("bad_share", "the samples have the wrong form")
    return EncodedTexts(ids, offsets, labels, network.pad_id, network.pad_left)
