"""Local training: one client's epochs on its own shard, and what the client may decide while it trains."""

import math
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.agent.datasets.batches import EncodedShard, EncodedTexts, shuffled
from workers.agent.modeling import freezing, precision
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.network import RNG, Network
from workers.agent.privacy.dp_sgd import PrivateTraining
from workers.agent.proof_of_learning.commitment import CommitmentChain, batch_seed
from workers.agent.proof_of_learning.recording import SegmentRecorder
from workers.agent.protocol.common import Autonomy, Decision
from workers.agent.protocol.training import Commitment, Hyperparameters
from workers.agent.runtime.autonomy import EARLY_STOP, HALVE_BATCH, HALVE_RATE, RESUME, allowed
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.storage import tensors
from workers.agent.strategies.fedprox import ProximalTerm
from workers.agent.training import memory
from workers.agent.training.checkpoint import Checkpoint, CheckpointState, EffectiveHyperparameters, Position

# Fused: one pass over each parameter instead of a dozen. On small models the step is otherwise half of the time.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": partial(torch.optim.Adagrad, fused=True),
}
_QUARTERS = 4
_MOST_HALVINGS = 5
_DIVERGED = 2.0


@dataclass(frozen=True, slots=True)
class LocalTrainingTask:
    """One round's local training. `commit` asks for a proof-of-learning commitment to `base_digest`; `moments` is the state
    that the optimizer goes on from, if any; `checkpoint` is where a restarted agent finds how far it was; the folder `replay`
    keeps what an audit of the commitment needs, if any."""

    number: int
    wanted: Hyperparameters
    autonomy: Autonomy
    base_digest: str
    commit: bool
    stop: threading.Event
    progress: Callable[[float], None]
    moments: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None
    replay: Path | None = None


@dataclass(slots=True)
class Trained:
    """Loss (nats) and accuracy of the last local epoch, seconds of all."""

    loss: float = math.nan
    accuracy: float = math.nan
    seconds: float = 0.0
    commitment: Commitment | None = None
    decisions: list[Decision] = field(default_factory=list)
    moments: dict[str, Any] | None = None


class _DivergedError(Exception):
    """The loss is not finite, or an epoch ended far above both the first and a guess."""


@dataclass(slots=True)
class _TrainingAttempt:
    """What one attempt at the round's epochs has in hand."""

    network: Network
    shard: EncodedShard
    job: LocalTrainingTask
    optimizer: torch.optim.Optimizer
    proximal: ProximalTerm | None
    recorder: SegmentRecorder | None
    effort: EffectiveHyperparameters
    watch: memory.Watch | None
    found: Trained
    at: Position = field(default_factory=Position)


def train(network: Network, shard: EncodedShard, job: LocalTrainingTask) -> Trained:
    """Train `network` in place. Deterministic for a seed, a round number and a number of threads, also where it goes on from a
    checkpoint.

    After each halving, of the batch or of the rate, the round begins again at its base; half a batch makes twice the steps of
    an epoch, each at the same rate.

    Raises StoppedError between two batches once `job.stop` is set, AgentError `diverged` where the node may not, or could
    not, mend a diverging loss by halving its learning rate, and `out_of_memory` likewise by halving its batch.
    """
    started = time.perf_counter()
    found = Trained()
    base = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    effort = EffectiveHyperparameters(job.wanted.batch_size, job.wanted.learning_rate)
    watch = memory.Watch() if allowed(HALVE_BATCH, job.autonomy) else None
    saved = job.checkpoint.read() if job.checkpoint else None
    if saved is not None:
        effort = saved.effort
        where = f"local epoch {saved.position.epoch + 1} after {saved.position.step} batches"
        found.decisions += [*saved.decisions, RESUME.decision(f"the agent was restarted; going on in {where}")]
    elif job.wanted.mixed_precision and (refusal := precision.missing_bf16_decision(network.model)):
        found.decisions.append(refusal)
    with (
        RNG,
        torch.random.fork_rng(devices=[]),
        freezing.freeze(network.model, job.wanted.freeze_layers) as parameters,
    ):
        while True:
            torch.manual_seed(job.wanted.seed * 1_000_003 + job.number)
            try:
                _epochs(network, parameters, shard, job, effort, watch, found, saved)
                break
            except _DivergedError as error:
                _halve_rate(job, effort, found, str(error))
            except (memory.MemoryPressureError, MemoryError, RuntimeError) as error:
                _halve_batch(job, effort, found, error)
            finally:
                network.model.eval()
            saved = None
            network.model.zero_grad(set_to_none=True)
            tensors.load_into(network.model, base)
            if watch is not None:
                watch.relieve()
    found.seconds = time.perf_counter() - started
    return found


def _halve_rate(job: LocalTrainingTask, effort: EffectiveHyperparameters, found: Trained, reason: str) -> None:
    halvings = sum(decision.action == HALVE_RATE.action for decision in found.decisions)
    if not allowed(HALVE_RATE, job.autonomy) or halvings == _MOST_HALVINGS:
        raise AgentError("diverged", f"{reason}; try a lower learning rate") from None
    effort.rate /= 2
    found.decisions.append(HALVE_RATE.decision(f"{reason}; trying again with {effort.rate:g}"))


def _halve_batch(job: LocalTrainingTask, effort: EffectiveHyperparameters, found: Trained, error: Exception) -> None:
    reason = memory.reason(error)
    if reason is None:
        raise error
    if not allowed(HALVE_BATCH, job.autonomy) or effort.batch_size == 1:
        raise AgentError("out_of_memory", f"{reason}; batches of {effort.batch_size} are too large") from None
    effort.batch_size //= 2
    found.decisions.append(HALVE_BATCH.decision(f"{reason}; trying again with batches of {effort.batch_size}"))


def _epochs(
    network: Network,
    parameters: list[nn.Parameter],
    shard: EncodedShard,
    job: LocalTrainingTask,
    effort: EffectiveHyperparameters,
    watch: memory.Watch | None,
    found: Trained,
    saved: CheckpointState | None,
) -> None:
    wanted = job.wanted
    optimizer = OPTIMIZERS[wanted.optimizer](parameters, lr=effort.rate, weight_decay=wanted.weight_decay)
    if job.moments is not None:
        go_on_from(optimizer, job.moments)
    proximal = ProximalTerm(network.model, wanted.proximal_mu) if wanted.proximal_mu else None
    if wanted.privacy is not None:
        hide = partial(hidden, network)
        PrivateTraining(network, shard.training, wanted.privacy, optimizer, proximal, hide, job.stop, job.progress).run()
        found.moments = optimizer.state_dict() if wanted.keep_moments else None
        return
    recorder = _recorder(network, shard, job, effort) if job.commit else None
    course = _TrainingAttempt(network, shard, job, optimizer, proximal, recorder, effort, watch, found)
    if saved is not None:
        _resume(course, saved)
    elif recorder is not None:
        recorder.begin(optimizer)
    at = course.at
    guessing = math.log(len(network.spec.labels))
    while at.epoch < wanted.local_epochs:
        batches = shuffled(shard.training.lengths, effort.batch_size, (wanted.seed, job.number, at.epoch))
        found.loss, found.accuracy = _epoch(course, batches)
        at.first_loss = found.loss if at.epoch == 0 else at.first_loss
        # A small loss wavers by more than its double and is no divergence while it beats a guess.
        if found.loss > _DIVERGED * max(at.first_loss, guessing):
            raise _DivergedError("the training loss more than doubled")
        if allowed(EARLY_STOP, job.autonomy) and at.epoch + 1 < wanted.local_epochs and len(shard.held_out):
            held_out, _ = loss_and_accuracy(network, shard.held_out)
            if held_out > at.best_held_out:
                reason = (
                    f"the held-out loss rose from {at.best_held_out:.4f} to {held_out:.4f} after local epoch {at.epoch + 1}"
                )
                found.decisions.append(EARLY_STOP.decision(reason))
                break
            at.best_held_out = held_out
        at.epoch, at.step, at.loss_sum, at.right = at.epoch + 1, 0, 0.0, 0
    found.commitment = recorder.finish() if recorder else None
    found.moments = optimizer.state_dict() if wanted.keep_moments else None


def _recorder(
    network: Network, shard: EncodedShard, job: LocalTrainingTask, effort: EffectiveHyperparameters
) -> SegmentRecorder:
    frozen = freezing.frozen_names(network.model, job.wanted.freeze_layers)
    planned = job.wanted.local_epochs * -(-len(shard.training) // effort.batch_size)
    chain = CommitmentChain(job.base_digest, batch_seed(job.wanted.seed, job.number))
    return SegmentRecorder(chain, network.model, frozen, planned, effort.batch_size, job.replay)


def _resume(course: _TrainingAttempt, saved: CheckpointState) -> None:
    tensors.load_into(course.network.model, saved.model)
    course.optimizer.load_state_dict(saved.optimizer)
    torch.set_rng_state(saved.random)
    course.at = saved.position
    if course.recorder is not None and saved.record is not None:
        course.recorder.resume(saved.record)


def _save(course: _TrainingAttempt, checkpoint: Checkpoint) -> None:
    checkpoint.write(
        CheckpointState(
            position=course.at,
            effort=course.effort,
            model=tensors.state_of(course.network.model),
            optimizer=course.optimizer.state_dict(),
            random=torch.get_rng_state(),
            decisions=course.found.decisions,
            record=course.recorder.record if course.recorder else None,
        )
    )


def go_on_from(optimizer: torch.optim.Optimizer, moments: dict[str, Any]) -> None:
    """Take over the moments, but not the last round's learning rate."""
    rates = [group["lr"] for group in optimizer.param_groups]
    # A copy: the optimizer writes into what it is given, and a round that is begun again must find it as it was.
    optimizer.load_state_dict(deepcopy(moments))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _epoch(course: _TrainingAttempt, batches: list[NDArray[np.int64]]) -> tuple[float, float]:
    """(mean loss, accuracy) over one epoch; a checkpoint is written at the end of each quarter that it is due at."""
    network, job, at, data = course.network, course.job, course.at, course.shard.training
    network.model.train()
    ends = {round((index + 1) * len(batches) / _QUARTERS) for index in range(_QUARTERS)}
    for number, batch in enumerate(batches[at.step :], start=at.step + 1):
        if job.stop.is_set():
            raise StoppedError
        if course.watch is not None:
            course.watch.look()
        value, correct = step(network, data, batch, course.optimizer, job.wanted, course.proximal)
        if not math.isfinite(value):
            raise _DivergedError("the training loss is not finite")
        at.loss_sum += value * len(batch)
        at.right += correct
        at.step = number
        if course.recorder is not None:
            course.recorder.step(value, len(batch), course.optimizer)
        if number in ends and job.checkpoint is not None and job.checkpoint.is_due:
            _save(course, job.checkpoint)
        job.progress((at.epoch + number / len(batches)) / job.wanted.local_epochs)
    network.model.eval()
    return at.loss_sum / len(data), at.right / len(data)


def step(
    network: Network,
    data: EncodedTexts,
    batch: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    wanted: Hyperparameters,
    proximal: ProximalTerm | None,
) -> tuple[float, int]:
    """One step of the optimizer; (the batch's mean loss before it, how many of its samples were right)."""
    targets = data.targets(batch)
    with precision.autocast(network.model, enabled=wanted.mixed_precision):
        logits = _logits(network, data, batch).float()
    loss = nn.functional.cross_entropy(logits, targets, label_smoothing=network.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if proximal is not None:
        proximal.add_to_gradients()
    optimizer.step()
    value = float(nn.functional.cross_entropy(logits.detach(), targets))
    return value, int((logits.detach().argmax(1) == targets).sum())


def _logits(network: Network, data: EncodedTexts, batch: NDArray[np.int64]) -> torch.Tensor:
    if data.activations is not None:
        return network.batch_logits(data, batch)
    ids, mask = data.batch(batch)
    return network.logits(hidden(network, ids), mask)


def hidden(network: Network, ids: torch.Tensor) -> torch.Tensor:
    if not network.token_dropout:
        return ids
    words = ids >= network.first_word_id
    return torch.where(words & (torch.rand(ids.shape) < network.token_dropout), network.unknown_id, ids)
