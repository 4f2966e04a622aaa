"""A cheap fingerprint of the state after each step: some of the model's values and the loss.

A full digest of the model costs as much as a training step of a small model. The fingerprint covers
about a thousand trained values. The base and the seed determine their places. A forged state of a
step must match all of these values exactly.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch

_VALUES = 1024


class FingerprintSampler:
    """Draws the places once for a round, among the tensors that are not `frozen`."""

    def __init__(self, state: Mapping[str, torch.Tensor], frozen: Collection[str], base_digest: str, batch_seed: str) -> None:
        names = sorted(state.keys() - frozen)
        ends = np.cumsum([state[name].numel() for name in names])
        seed = int.from_bytes(hashlib.sha256(f"{base_digest}/{batch_seed}".encode()).digest()[:8])
        flat_places = np.unique(np.random.default_rng(seed).integers(0, int(ends[-1]), min(_VALUES, int(ends[-1]))))
        owner = np.searchsorted(ends, flat_places, side="right")
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        self._places = {
            names[index]: torch.from_numpy(flat_places[owner == index] - starts[index]) for index in np.unique(owner).tolist()
        }

    def fingerprint(self, state: Mapping[str, torch.Tensor], loss: float) -> str:
        """Return the fingerprint of a state after a step with this mean loss, in nats."""
        digest = hashlib.sha256(struct.pack("<d", loss))
        for name, places in self._places.items():
            digest.update(state[name].reshape(-1)[places].to(torch.float32).numpy().data)
        return digest.hexdigest()


def trace_of(fingerprints: Iterable[str]) -> str:
    """Return one digest over the fingerprints of a segment, in order."""
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()
