"""The door: what an update must be before anybody looks further at it."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.agent import tensors
from workers.agent.errors import AgentError
from workers.agent.protocol import Compression, TrainReport
from workers.agent.update import unpack

# Honest training moves a model by a fraction of its own norm; an update many times that far away was scaled.
LARGEST_STEP = 10.0
_HEADERS = 2**20


@dataclass(frozen=True, slots=True)
class Admitted:
    report: TrainReport
    state: tensors.State


def admit(
    path: Path,
    node_id: str,
    base: tensors.State,
    frozen: Collection[str] = (),
    compression: Compression = Compression(),
) -> Admitted:
    """Read an update's file; what comes out is a whole model, whatever travelled.

    AgentError: malformed_update, wrong_author, wrong_shapes, no_samples, not_finite, norm_exceeded.
    """
    try:
        report = TrainReport.model_validate_json(tensors.metadata(path)["report"])
    except (ValueError, KeyError):
        raise AgentError("malformed_update", "the update is not a safetensors file with a report") from None
    if report.node_id != node_id:
        raise AgentError("wrong_author", "the update's report is another node's")
    if not report.samples or report.samples < 1:
        raise AgentError("no_samples", "the update stands for no samples")
    if path.stat().st_size > 2 * sum(tensor.nbytes for tensor in base.values()) + _HEADERS:
        raise AgentError("wrong_shapes", "the update is larger than the model")
    try:
        state = unpack(path, base, frozen, compression)
    except ValueError as error:
        raise AgentError("wrong_shapes", str(error)) from None
    moved = own = 0.0
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise AgentError("not_finite", "the update holds NaN or infinity")
        moved += float((tensor - base[name]).double().pow(2).sum())
        own += float(base[name].double().pow(2).sum())
    if math.sqrt(moved) > LARGEST_STEP * max(1.0, math.sqrt(own)):
        raise AgentError("norm_exceeded", "the update is too far from the global model")
    return Admitted(report, state)
