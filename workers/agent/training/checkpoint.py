"""Where local training stands at the end of a segment, on disk: a restarted agent goes on from there to the same result.

A checkpoint holds weights, the optimizer's state, the random generator's and the position; it stays in the sandbox and goes
when the round is done. Writing takes at most a twentieth of the time: a large model's is not written at every segment.
"""

import time
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from workers.agent.protocol.common import Decision

_PAUSE = 20.0


@dataclass(slots=True)
class EffectiveHyperparameters:
    """What memory pressure and divergence leave of the batch size and the learning rate that were asked for."""

    batch_size: int
    rate: float


@dataclass(slots=True)
class Position:
    """A place between two batches: `step` batches of local epoch `epoch` (from 0) are done; sums are this epoch's."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    first_loss: float = float("inf")
    best_held_out: float = float("inf")


@dataclass(slots=True)
class CheckpointState:
    """`record` is the proof-of-learning recorder's, where the round is committed to."""

    position: Position
    effort: EffectiveHyperparameters
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    random: torch.Tensor
    decisions: list[Decision]
    record: dict[str, Any] | None = None


class Checkpoint:
    """One round's file. `key` names everything that the round's result depends on: another key finds nothing."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def write(self, saved: CheckpointState) -> None:
        """Whole or not at all; what cannot be written is done without."""
        started = time.monotonic()
        content = {name: getattr(saved, name) for name in ("model", "optimizer", "random", "record")}
        content |= {"position": asdict(saved.position), "effort": asdict(saved.effort)}
        content["decisions"] = [decision.model_dump() for decision in saved.decisions]
        part = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"key": self._key, **content}, part)
            part.replace(self._path)
        except (OSError, RuntimeError):
            part.unlink(missing_ok=True)
        now = time.monotonic()
        self._next = now + _PAUSE * (now - started)

    def read(self) -> CheckpointState | None:
        """What was written under this key; None for nothing, another round's, or a file that is broken."""
        try:
            content = torch.load(self._path, weights_only=True)
            if content.pop("key") != self._key:
                return None
            content["position"] = Position(**content["position"])
            content["effort"] = EffectiveHyperparameters(**content["effort"])
            content["decisions"] = [Decision(**decision) for decision in content["decisions"]]
            return CheckpointState(**{item.name: content[item.name] for item in fields(CheckpointState)})
        except Exception:  # noqa: BLE001 - whatever is wrong with the file, the round can begin at its base
            return None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
