"""Checks that every update must pass before the aggregator uses it."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.agent.protocol.training import Compression, TrainReport
from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.updates import norms
from workers.agent.updates.packing import unpack

# An honest update changes a model by a fraction of its norm. A much larger update was scaled.
LARGEST_STEP = 10.0
# No shard holds more, because a file has at most 1 GiB. A larger claim would outweigh the others.
_MOST_SAMPLES = 10**9
_HEADERS = 2**20


@dataclass(frozen=True, slots=True)
class ValidUpdate:
    """An update that has passed all checks. `length` is the distance of `state` from the base."""

    report: TrainReport
    state: tensors.State
    length: float


def validate_update(
    path: Path,
    node_id: str,
    base: tensors.State,
    frozen: Collection[str] = (),
    compression: Compression = Compression(),
) -> ValidUpdate:
    """Read an update's file and return the whole model.

    Raises:
        AgentError: `malformed_update`, `wrong_author`, `wrong_shapes`, `no_samples`, `not_finite`,
            `norm_exceeded`.
    """
    report = read_report(path, node_id)
    if path.stat().st_size > 2 * sum(tensor.nbytes for tensor in base.values()) + _HEADERS:
        raise AgentError("wrong_shapes", "the update is larger than the model")
    try:
        state = unpack(path, base, frozen, compression)
    except ValueError as error:
        raise AgentError("wrong_shapes", str(error)) from None
    return ValidUpdate(report, state, checked_length(state, base))


def read_report(path: Path, node_id: str) -> TrainReport:
    """Return the report in an update's file.

    Raises:
        AgentError: `malformed_update`, `wrong_author`, `no_samples`.
    """
    try:
        report = TrainReport.model_validate_json(tensors.metadata(path)["report"])
    except (ValueError, KeyError):
        raise AgentError("malformed_update", "the update is not a safetensors file with a report") from None
    if report.node_id != node_id:
        raise AgentError("wrong_author", "the update's report is another node's")
    if not report.samples or not 1 <= report.samples <= _MOST_SAMPLES:
        raise AgentError("no_samples", "the update has no plausible number of samples")
    return report


def read_sound_state(path: Path, base: tensors.State) -> tensors.State:
    """Read a model's tensors and check that they can be an update of `base`.

    Raises:
        AgentError: `malformed_update`, `wrong_shapes`, `not_finite`, `norm_exceeded`.
    """
    try:
        shapes = tensors.shapes(path)
    except ValueError:
        raise AgentError("malformed_update", "the update is not a safetensors file") from None
    if shapes != {name: tuple(tensor.shape) for name, tensor in base.items()}:
        raise AgentError("wrong_shapes", "the update's names or shapes are not the model's")
    state = tensors.read(path)
    checked_length(state, base)
    return state


def checked_length(state: tensors.State, base: tensors.State) -> float:
    """Return the distance of `state` from `base`.

    Raises:
        AgentError: `not_finite`, `norm_exceeded`.
    """
    distance, base_norm = norms.distance(state, base)
    if not math.isfinite(distance) and not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise AgentError("not_finite", "the update holds NaN or infinity")
    if distance > LARGEST_STEP * max(1.0, base_norm):
        raise AgentError("norm_exceeded", "the update is too far from the global model")
    return distance
