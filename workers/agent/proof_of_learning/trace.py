"""What is remembered of every step, cheaply: a fingerprint of some of the model's values and of the batch's loss.

A full digest of the model costs as much as a training step of a small one. The fingerprint covers a thousand values out of
those that are trained, at places that base and seed give; whoever shows a state for a step must hit all of them to the bit.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch

_VALUES = 1024


class FingerprintSampler:
    """Draws the places once, among the tensors that are not `frozen`; new ones for each round."""

    def __init__(self, state: Mapping[str, torch.Tensor], frozen: Collection[str], base_digest: str, batch_seed: str) -> None:
        names = sorted(state.keys() - frozen)
        ends = np.cumsum([state[name].numel() for name in names])
        seed = int.from_bytes(hashlib.sha256(f"{base_digest}/{batch_seed}".encode()).digest()[:8])
        drawn = np.unique(np.random.default_rng(seed).integers(0, int(ends[-1]), min(_VALUES, int(ends[-1]))))
        owner = np.searchsorted(ends, drawn, side="right")
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        self._places = {
            names[index]: torch.from_numpy(drawn[owner == index] - starts[index]) for index in np.unique(owner).tolist()
        }

    def fingerprint(self, state: Mapping[str, torch.Tensor], loss: float) -> str:
        """Of a state after a step and of the step's mean loss (nats)."""
        digest = hashlib.sha256(struct.pack("<d", loss))
        for name, places in self._places.items():
            digest.update(state[name].reshape(-1)[places].to(torch.float32).numpy().data)
        return digest.hexdigest()


def trace_of(fingerprints: Iterable[str]) -> str:
    """One digest over a segment's fingerprints, in order."""
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()
