"""A worker's record of a round while it trains: its commitment, and one checkpoint per segment.

The round is cut into four segments of nearly equal length. A checkpoint holds what a segment began
with: weights, optimizer state and random state. With it the worker can repeat the segment. It stays
on the worker's own disk until the next round begins: an aggregator that was lost and restored may
ask for the same round's audit again.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from workers.agent.proof_of_learning.commitment import CommitmentChain
from workers.agent.proof_of_learning.trace import FingerprintSampler, trace_of
from workers.agent.protocol.common import Message
from workers.agent.protocol.training import Commitment, LocalWork, TrainRound
from workers.agent.storage import tensors

SEGMENTS = 4
REPLAY_FOLDER = "replay"
ROUND = "round.json"


def segment_path(folder: Path, segment: int) -> Path:
    return folder / f"{segment}.pt"


def prepare_folder(training_folder: Path, request: TrainRound) -> Path:
    """Return the folder of a round's checkpoints. It is empty, but for the request.

    A round that is resumed finds its checkpoints there.
    """
    folder = training_folder / REPLAY_FOLDER
    if _belongs_to(folder, request):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ROUND).write_text(request.work.model_dump_json())
    return folder


def _belongs_to(folder: Path, request: TrainRound) -> bool:
    try:
        return LocalWork.model_validate_json((folder / ROUND).read_bytes()) == request.work
    except (OSError, ValidationError):
        return False


@dataclass(frozen=True, slots=True)
class SegmentStart:
    """What a segment began with, after `done` steps of the round.

    `state` None is the round's base, which is in the store. `optimizer` is torch's state dict,
    `rng` the state of torch's random generator.
    """

    done: int
    batch_size: int
    state: tensors.State | None
    optimizer: dict[str, Any]
    rng: torch.Tensor

    def write(self, path: Path) -> None:
        part = path.with_suffix(".part")
        # Not by `asdict`, which copies all tensors.
        torch.save({name: getattr(self, name) for name in self.__slots__}, part)
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> "SegmentStart":
        return cls(**torch.load(path, weights_only=True))


class RecorderState(Message):
    """What a restarted agent needs to continue a record: the commitment and the open segment."""

    commitment: Commitment
    done: int
    fingerprints: list[str]
    loss_sum: float
    samples: int


class SegmentRecorder:
    """Records the steps of one round as they are taken.

    `planned` is the number of the round's steps, each on `batch_size` samples. Training may end
    earlier. Without a `folder` no checkpoints are written.
    """

    def __init__(
        self,
        chain: CommitmentChain,
        model: nn.Module,
        frozen: Collection[str],
        planned: int,
        batch_size: int,
        folder: Path | None = None,
    ) -> None:
        self._chain = chain
        # The tensors themselves: optimizers change them in place.
        self._state = tensors.state_of(model)
        self._sampler = FingerprintSampler(self._state, frozen, chain.base_digest, chain.seed)
        self._ends = {round((index + 1) * planned / SEGMENTS) for index in range(SEGMENTS)} - {0}
        self._planned = planned
        self._batch_size = batch_size
        self._folder = folder
        self._done = 0
        self._segment = 0
        self._fingerprints: list[str] = []
        self._loss_sum, self._samples = 0.0, 0

    @property
    def state(self) -> RecorderState:
        return RecorderState(
            commitment=self._chain.commitment,
            done=self._done,
            fingerprints=self._fingerprints,
            loss_sum=self._loss_sum,
            samples=self._samples,
        )

    def resume(self, state: RecorderState) -> None:
        """Continue from `state`. Call it instead of `begin`.

        Model and optimizer must be as they were then.
        """
        self._chain.resume(state.commitment)
        self._segment, self._done = len(state.commitment.segments), state.done
        self._fingerprints = [*state.fingerprints]
        self._loss_sum, self._samples = state.loss_sum, state.samples

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Call it before the first step."""
        self._write_start(optimizer, state=None)

    def step(self, loss: float, samples: int, optimizer: torch.optim.Optimizer) -> None:
        """Record an optimizer step: the batch's mean loss, and its number of samples."""
        self._done += 1
        self._fingerprints.append(self._sampler.fingerprint(self._state, loss))
        self._loss_sum, self._samples = self._loss_sum + loss * samples, self._samples + samples
        if self._done in self._ends:
            self._close()
            if self._done < self._planned:
                self._write_start(optimizer, self._state)

    def _close(self) -> None:
        mean, trace = self._loss_sum / self._samples, trace_of(self._fingerprints)
        self._chain.add(tensors.state_digest(self._state), mean, len(self._fingerprints), trace)
        self._segment += 1
        self._fingerprints.clear()
        self._loss_sum, self._samples = 0.0, 0

    def _write_start(self, optimizer: torch.optim.Optimizer, state: tensors.State | None) -> None:
        if self._folder is None:
            return
        start = SegmentStart(self._done, self._batch_size, state, optimizer.state_dict(), torch.get_rng_state())
        start.write(segment_path(self._folder, self._segment))

    def finish(self) -> Commitment:
        """Return the commitment after the last step, also if training ended early."""
        if self._fingerprints:
            self._close()
        return self._chain.commitment
