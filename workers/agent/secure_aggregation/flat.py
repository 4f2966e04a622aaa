"""The trained parameters end to end, in the order of their names: what is masked and added up."""

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
    """Flat, fp32."""
    return torch.cat([(trained[name] - base[name]).reshape(-1) for name in sorted(trained)])


def moved(base: State, frozen: Collection[str], step: torch.Tensor) -> State:
    """The model that lies `step` away from `base`; frozen parameters stay."""
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
    """AgentError `wrong_shapes`, `malformed_update`."""
    try:
        found = tensors.read(path)
    except Exception:  # noqa: BLE001 - safetensors has errors of its own
        raise AgentError("malformed_update", "the update is not a safetensors file") from None
    if found.keys() != {_NAME} or found[_NAME].dtype != torch.int32 or found[_NAME].shape != (length,):
        raise AgentError("wrong_shapes", "the masked update does not have the model's length")
    return found[_NAME].numpy().view(np.uint32)
