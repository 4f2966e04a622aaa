"""Updates as they travel: the worker packs them, the aggregator unpacks and checks them.

A plain update holds the trained parameters. A compressed update holds their difference from the
round's base. Frozen parameters never travel, because both sides have them in the base.
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
    """An update that is ready to send.

    `parts` are the tensors to send. `state` is the model that the aggregator will unpack.
    `residual` holds the values that the update leaves out; None when it leaves out nothing.
    """

    parts: State
    state: State
    residual: State | None


def pack(
    state: State,
    base: State,
    frozen: Collection[str],
    compression: Compression,
    residual: State | None,
    random: torch.Generator,
) -> PackedUpdate:
    """Pack a trained model.

    `residual` holds the values that earlier updates left out. A sparse update adds them (error
    feedback). Only a compressed update reads `base`. `random` is the generator of its rounding.
    """
    trained = {name: tensor for name, tensor in state.items() if name not in frozen}
    if compression.is_none:
        return PackedUpdate(trained, state, None)
    delta = {name: tensor - base[name] for name, tensor in trained.items()}
    if compression.sparse and residual is not None:
        for name, tensor in delta.items():
            tensor.add_(residual[name])
    parts = codec.encode(delta, compression, random)
    sent = codec.decode(parts, compression, {name: tensor.shape for name, tensor in delta.items()})
    omitted = {name: tensor - sent[name] for name, tensor in delta.items()} if compression.sparse else None
    return PackedUpdate(parts, _add(base, sent), omitted)


def unpack(path: Path, base: State, frozen: Collection[str], compression: Compression) -> State:
    """Return the whole model of an update.

    Raises:
        ValueError: for a file that `pack` cannot have written.
    """
    shapes = {name: tensor.shape for name, tensor in base.items() if name not in frozen}
    if compression.is_none:
        if tensors.shapes(path) != {name: tuple(shape) for name, shape in shapes.items()}:
            raise ValueError("the update's names or shapes are not the model's")
        return {**base, **tensors.read(path)}
    return _add(base, codec.decode(tensors.read(path), compression, shapes))


def _add(base: State, delta: State) -> State:
    return {name: tensor + delta[name] if name in delta else tensor for name, tensor in base.items()}
