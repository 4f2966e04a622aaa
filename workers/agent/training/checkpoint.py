"""The state of local training at the end of a segment, on disk.

A restarted agent resumes from it and reaches the same result. A checkpoint holds weights, optimizer
state, random state and the position. It stays in the sandbox and is deleted when the round is done.
Writing takes at most a twentieth of the time: a large model is not written at every segment.
"""

import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from workers.agent.proof_of_learning.recording import RecorderState
from workers.agent.protocol.common import Decision

_PAUSE = 20.0


@dataclass(slots=True)
class EffectiveHyperparameters:
    """Batch size and learning rate after memory pressure and divergence have halved them."""

    batch_size: int
    learning_rate: float


@dataclass(slots=True)
class Position:
    """A place between two batches: `step` batches of local epoch `epoch` (from 0) are done.

    `loss_sum` and `right` are the sums of this epoch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    first_loss: float = float("inf")
    best_held_out: float = float("inf")

    def next_epoch(self) -> None:
        self.epoch, self.step, self.loss_sum, self.right = self.epoch + 1, 0, 0.0, 0


@dataclass(slots=True)
class CheckpointState:
    """`optimizer` is torch's state dict. `recorder` belongs to a round with proof of learning."""

    position: Position
    effective: EffectiveHyperparameters
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    random: torch.Tensor
    decisions: list[Decision]
    recorder: RecorderState | None = None


class Checkpoint:
    """One round's file. `key` is a digest of everything that the result depends on.

    With another key nothing is found.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def write(self, state: CheckpointState) -> None:
        """Write the whole file or none.

        If it cannot be written, the round continues without a checkpoint.
        """
        started = time.monotonic()
        content = {
            "key": self._key,
            "position": asdict(state.position),
            "effective": asdict(state.effective),
            "model": state.model,
            "optimizer": state.optimizer,
            "random": state.random,
            "decisions": [decision.model_dump() for decision in state.decisions],
            "recorder": state.recorder.model_dump() if state.recorder is not None else None,
        }
        part = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, part)
            part.replace(self._path)
        except (OSError, RuntimeError):
            part.unlink(missing_ok=True)
        now = time.monotonic()
        self._next = now + _PAUSE * (now - started)

    def read(self) -> CheckpointState | None:
        """Return what was written under this key.

        None: there is no file, it belongs to another round, or it is broken.
        """
        try:
            content = torch.load(self._path, weights_only=True)
            if content["key"] != self._key:
                return None
            recorder = content["recorder"]
            return CheckpointState(
                position=Position(**content["position"]),
                effective=EffectiveHyperparameters(**content["effective"]),
                model=content["model"],
                optimizer=content["optimizer"],
                random=content["random"],
                decisions=[Decision(**decision) for decision in content["decisions"]],
                recorder=RecorderState(**recorder) if recorder is not None else None,
            )
        except Exception:  # noqa: BLE001 - with any broken file the round can begin at its base
            return None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
