"""What travels from worker to aggregator: packed by the one, unpacked and checked by the other.

A plain update holds the trained parameters themselves, a compressed one their difference to the round's base model. Frozen
parameters never travel: both sides have them in the base.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.agent.protocol.training import Compression
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State
from workers.agent.updates.compression import codec


@dataclass(frozen=True, slots=True)
class PackedUpdate:
    """`state` is the model as the aggregator will see it, `residual` what this update leaves out (None where nothing)."""

    parts: State
    state: State
    residual: State | None


def pack(
    state: State, base: State, frozen: Collection[str], wanted: Compression, residual: State | None, random: torch.Generator
) -> PackedUpdate:
    """`residual` is what earlier updates left out; a sparse update makes up for it (error feedback). Only a compressed update
    looks at `base`."""
    trained = {name: tensor for name, tensor in state.items() if name not in frozen}
    if wanted.is_none:
        return PackedUpdate(trained, state, None)
    delta = {name: tensor - base[name] for name, tensor in trained.items()}
    if wanted.sparse and residual is not None:
        for name, tensor in delta.items():
            tensor.add_(residual[name])
    parts = codec.encode(delta, wanted, random)
    sent = codec.decode(parts, wanted, {name: tensor.shape for name, tensor in delta.items()})
    left = {name: tensor - sent[name] for name, tensor in delta.items()} if wanted.sparse else None
    return PackedUpdate(parts, _moved(base, sent), left)


def unpack(path: Path, base: State, frozen: Collection[str], wanted: Compression) -> State:
    """The whole model that an update stands for. ValueError for a file that `pack` could not have made."""
    shapes = {name: tensor.shape for name, tensor in base.items() if name not in frozen}
    if wanted.is_none:
        if tensors.shapes(path) != {name: tuple(shape) for name, shape in shapes.items()}:
            raise ValueError("the update's names or shapes are not the model's")
        return {**base, **tensors.read(path)}
    return _moved(base, codec.decode(tensors.read(path), wanted, shapes))


def _moved(base: State, delta: State) -> State:
    return {name: tensor + delta[name] if name in delta else tensor for name, tensor in base.items()}
