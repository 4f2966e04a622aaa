"""A worker's record of a round while it trains: its commitment, and the checkpoints to do any segment again.

The round is cut into four segments of nearly equal length. What a segment began with (weights, optimizer, random numbers) lies
on the worker's own disk until its next round begins: an aggregator that is lost may ask for the same round's audit again.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from workers.agent.proof_of_learning.commitment import CommitmentChain
from workers.agent.proof_of_learning.trace import FingerprintSampler, trace_of
from workers.agent.protocol.training import Commitment, LocalWork, TrainRound
from workers.agent.storage import tensors

SEGMENTS = 4
REPLAY_FOLDER = "replay"
ROUND = "round.json"


def checkpoint(folder: Path, segment: int) -> Path:
    return folder / f"{segment}.pt"


def prepare_folder(training_folder: Path, request: TrainRound) -> Path:
    """The folder of a round's checkpoints, empty but for what was asked for; a round that is gone on with keeps its own."""
    folder = training_folder / REPLAY_FOLDER
    if _is_of(folder, request):
        return folder
    forget(folder)
    folder.mkdir(parents=True)
    (folder / ROUND).write_text(request.work.model_dump_json())
    return folder


def _is_of(folder: Path, request: TrainRound) -> bool:
    try:
        return LocalWork.model_validate_json((folder / ROUND).read_bytes()) == request.work
    except (OSError, ValidationError):
        return False


class SegmentRecorder:
    """`folder` None keeps no checkpoints. `planned` is the number of the round's steps, each on `batch_size`
    samples; fewer may come."""

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
    def record(self) -> dict[str, Any]:
        """All that a recorder of the same round goes on from, as plain values."""
        return {
            "commitment": self._chain.commitment.model_dump(),
            "done": self._done,
            "fingerprints": [*self._fingerprints],
            "loss_sum": self._loss_sum,
            "samples": self._samples,
        }

    def resume(self, record: dict[str, Any]) -> None:
        """Instead of `begin`: the agent was restarted, and its model and optimizer are as they were at this record."""
        before = Commitment(**record["commitment"])
        self._chain.resume(before)
        self._segment, self._done = len(before.segments), record["done"]
        self._fingerprints = [*record["fingerprints"]]
        self._loss_sum, self._samples = record["loss_sum"], record["samples"]

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Before the first step. The base itself lies in the store."""
        if self._folder is not None:
            self._keep(optimizer, state=None)

    def step(self, loss: float, samples: int, optimizer: torch.optim.Optimizer) -> None:
        """After an optimizer step on a batch of so many samples with this mean loss."""
        self._done += 1
        self._fingerprints.append(self._sampler.fingerprint(self._state, loss))
        self._loss_sum, self._samples = self._loss_sum + loss * samples, self._samples + samples
        if self._done in self._ends:
            self._close()
            if self._folder is not None and self._done < self._planned:
                self._keep(optimizer, self._state)

    def _close(self) -> None:
        mean, trace = self._loss_sum / self._samples, trace_of(self._fingerprints)
        self._chain.add(tensors.state_digest(self._state), mean, len(self._fingerprints), trace)
        self._segment += 1
        self._fingerprints.clear()
        self._loss_sum, self._samples = 0.0, 0

    def _keep(self, optimizer: torch.optim.Optimizer, state: tensors.State | None) -> None:
        assert self._folder is not None
        kept = {
            "done": self._done,
            "batch_size": self._batch_size,
            "state": state,
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        path = checkpoint(self._folder, self._segment)
        part = path.with_suffix(".part")
        torch.save(kept, part)
        part.replace(path)

    def finish(self) -> Commitment:
        """After the last step, also where training ended early."""
        if self._fingerprints:
            self._close()
        return self._chain.commitment


def forget(folder: Path) -> None:
    """Another round begins."""
    shutil.rmtree(folder, ignore_errors=True)
