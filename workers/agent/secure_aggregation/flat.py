"""The trained parameters as one flat vector, in the order of their names.

The secure sum masks and adds these vectors.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation.fixed_point import FixedPointVector
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State

_NAME = "masked"


def change(trained: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the difference from the base: fp32, flat."""
    return torch.cat([(trained[name] - base[name]).reshape(-1) for name in sorted(trained)])


def add_change(base: State, frozen: Collection[str], step: torch.Tensor) -> State:
    """Return the model `base` + `step`. Frozen parameters stay as they are."""
    names = sorted(base.keys() - frozen)
    pieces = step.split([base[name].numel() for name in names])
    after = {
        name: (base[name] + piece.reshape(base[name].shape)).to(torch.float32)
        for name, piece in zip(names, pieces, strict=True)
    }
    return {**base, **after}


def write(path: Path, masked: FixedPointVector, report: str) -> None:
    tensors.write_parts(path, {_NAME: torch.from_numpy(masked.view(np.int32))}, {"report": report})


def read(path: Path, length: int) -> FixedPointVector:
    """Read a masked update with `length` values.

    Raises:
        AgentError: `wrong_shapes`, `malformed_update`.
    """
    try:
        parts = tensors.read(path)
    except Exception:  # noqa: BLE001 - safetensors raises several kinds of errors
        raise AgentError("malformed_update", "the update is not a safetensors file") from None
    if parts.keys() != {_NAME} or parts[_NAME].dtype != torch.int32 or parts[_NAME].shape != (length,):
        raise AgentError("wrong_shapes", "the masked update does not have the model's length")
    return parts[_NAME].numpy().view(np.uint32)
