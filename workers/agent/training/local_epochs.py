"""Local training: one worker's epochs on its own shard, and its decisions while it trains."""

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
from workers.agent.protocol.training import Commitment, DpSgdSpec, Hyperparameters
from workers.agent.runtime.autonomy import EARLY_STOP, HALVE_BATCH, HALVE_RATE, RESUME, allowed
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.storage import tensors
from workers.agent.strategies.fedprox import ProximalTerm
from workers.agent.training import memory
from workers.agent.training.checkpoint import Checkpoint, CheckpointState, EffectiveHyperparameters, Position

# Fused optimizers read each parameter once, not a dozen times. On small models the optimizer would
# otherwise take half of a step's time.
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
    """One round's local training.

    `commit` asks for a proof-of-learning commitment to `base_digest`. `moments` is the optimizer
    state to start with. `checkpoint` is where a restarted agent finds its progress. The folder
    `replay` keeps what an audit of the commitment needs. `progress` takes a fraction, 0..1.
    """

    number: int
    hyperparameters: Hyperparameters
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
    """Loss (nats) and accuracy of the last local epoch, and the seconds of all epochs."""

    loss: float = math.nan
    accuracy: float = math.nan
    seconds: float = 0.0
    commitment: Commitment | None = None
    decisions: list[Decision] = field(default_factory=list)
    moments: dict[str, Any] | None = None


class _DivergedError(Exception):
    """The loss is not finite, or an epoch ended far above both the first epoch and a guess."""


@dataclass(frozen=True, slots=True)
class _TrainingRun:
    """What all attempts of one round's training share."""

    network: Network
    parameters: list[nn.Parameter]
    shard: EncodedShard
    task: LocalTrainingTask
    effective: EffectiveHyperparameters
    memory_watch: memory.MemoryWatch | None
    trained: Trained


@dataclass(slots=True)
class _TrainingAttempt:
    """One attempt at the round's epochs. A new attempt begins after a halving."""

    run: _TrainingRun
    optimizer: torch.optim.Optimizer
    proximal: ProximalTerm | None
    recorder: SegmentRecorder | None
    position: Position = field(default_factory=Position)


def train(network: Network, shard: EncodedShard, task: LocalTrainingTask) -> Trained:
    """Train `network` in place.

    The result depends only on the seed, the round number and the number of threads. It is the same
    after a resume from a checkpoint. After each halving the round begins again at its base. With
    half a batch size an epoch has twice the steps, each with the same learning rate.

    Raises: StoppedError between two batches once `task.stop` is set. AgentError `diverged` if the
    loss diverges and the node may not, or cannot, halve its learning rate. AgentError
    `out_of_memory` if the same holds for its batch size.
    """
    started = time.perf_counter()
    hyperparameters, trained = task.hyperparameters, Trained()
    base = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    effective = EffectiveHyperparameters(hyperparameters.batch_size, hyperparameters.learning_rate)
    memory_watch = memory.MemoryWatch() if allowed(HALVE_BATCH, task.autonomy) else None
    saved = task.checkpoint.read() if task.checkpoint else None
    if saved is not None:
        effective = saved.effective
        place = f"local epoch {saved.position.epoch + 1} after {saved.position.step} batches"
        trained.decisions += [*saved.decisions, RESUME.decision(f"the agent was restarted; it resumes in {place}")]
    elif hyperparameters.mixed_precision and (decision := precision.missing_bf16_decision(network.model)):
        trained.decisions.append(decision)
    with (
        RNG,
        torch.random.fork_rng(devices=[]),
        freezing.freeze(network.model, hyperparameters.freeze_layers) as parameters,
    ):
        run = _TrainingRun(network, parameters, shard, task, effective, memory_watch, trained)
        while not _attempt(run, saved):
            saved = None
            network.model.zero_grad(set_to_none=True)
            tensors.load_into(network.model, base)
            if memory_watch is not None:
                memory_watch.relieve()
    trained.seconds = time.perf_counter() - started
    return trained


def _attempt(run: _TrainingRun, saved: CheckpointState | None) -> bool:
    """Return whether the training is done; False after a halving."""
    torch.manual_seed(run.task.hyperparameters.seed * 1_000_003 + run.task.number)
    try:
        _run_epochs(run, saved)
    except _DivergedError as error:
        _halve_rate(run, str(error))
        return False
    except (memory.MemoryPressureError, MemoryError, RuntimeError) as error:
        _halve_batch(run, error)
        return False
    finally:
        run.network.model.eval()
    return True


def _halve_rate(run: _TrainingRun, reason: str) -> None:
    decisions, effective = run.trained.decisions, run.effective
    halvings = sum(decision.action == HALVE_RATE.action for decision in decisions)
    if not allowed(HALVE_RATE, run.task.autonomy) or halvings == _MOST_HALVINGS:
        raise AgentError("diverged", f"{reason}; try a lower learning rate") from None
    effective.learning_rate /= 2
    decisions.append(HALVE_RATE.decision(f"{reason}; trying again with {effective.learning_rate:g}"))


def _halve_batch(run: _TrainingRun, error: Exception) -> None:
    reason, effective = memory.reason(error), run.effective
    if reason is None:
        raise error
    if not allowed(HALVE_BATCH, run.task.autonomy) or effective.batch_size == 1:
        raise AgentError("out_of_memory", f"{reason}; batches of {effective.batch_size} are too large") from None
    effective.batch_size //= 2
    run.trained.decisions.append(HALVE_BATCH.decision(f"{reason}; trying again with batches of {effective.batch_size}"))


def _run_epochs(run: _TrainingRun, saved: CheckpointState | None) -> None:
    hyperparameters, trained = run.task.hyperparameters, run.trained
    optimizer = OPTIMIZERS[hyperparameters.optimizer](
        run.parameters, lr=run.effective.learning_rate, weight_decay=hyperparameters.weight_decay
    )
    if run.task.moments is not None:
        load_moments(optimizer, run.task.moments)
    proximal = ProximalTerm(run.network.model, hyperparameters.proximal_mu) if hyperparameters.proximal_mu else None
    if hyperparameters.privacy is not None:
        _run_private_steps(run, hyperparameters.privacy, optimizer, proximal)
    else:
        recorder = _recorder(run) if run.task.commit else None
        attempt = _TrainingAttempt(run, optimizer, proximal, recorder)
        if saved is not None:
            _resume(attempt, saved)
        elif recorder is not None:
            recorder.begin(optimizer)
        while attempt.position.epoch < hyperparameters.local_epochs and _continues_after_epoch(attempt):
            attempt.position.next_epoch()
        trained.commitment = recorder.finish() if recorder else None
    trained.moments = optimizer.state_dict() if hyperparameters.keep_moments else None


def _run_private_steps(
    run: _TrainingRun, privacy: DpSgdSpec, optimizer: torch.optim.Optimizer, proximal: ProximalTerm | None
) -> None:
    network, task = run.network, run.task
    hide = partial(hidden, network)
    PrivateTraining(network, run.shard.training, privacy, optimizer, proximal, hide, task.stop, task.progress).run()


def _continues_after_epoch(attempt: _TrainingAttempt) -> bool:
    """Train one epoch. Return False if the node then stops early."""
    run, position = attempt.run, attempt.position
    hyperparameters, trained = run.task.hyperparameters, run.trained
    seed = (hyperparameters.seed, run.task.number, position.epoch)
    batches = shuffled(run.shard.training.lengths, run.effective.batch_size, seed)
    trained.loss, trained.accuracy = _epoch(attempt, batches)
    position.first_loss = trained.loss if position.epoch == 0 else position.first_loss
    # A small loss may double by chance. That is no divergence while it is better than a guess.
    guess = math.log(len(run.network.spec.labels))
    if trained.loss > _DIVERGED * max(position.first_loss, guess):
        raise _DivergedError("the training loss more than doubled")
    is_last = position.epoch + 1 >= hyperparameters.local_epochs
    if not allowed(EARLY_STOP, run.task.autonomy) or is_last or not len(run.shard.held_out):
        return True
    loss, _ = loss_and_accuracy(run.network, run.shard.held_out)
    if loss > position.best_held_out:
        rise = f"from {position.best_held_out:.4f} to {loss:.4f}"
        reason = f"the held-out loss rose {rise} after local epoch {position.epoch + 1}"
        trained.decisions.append(EARLY_STOP.decision(reason))
        return False
    position.best_held_out = loss
    return True


def _recorder(run: _TrainingRun) -> SegmentRecorder:
    task, batch_size = run.task, run.effective.batch_size
    frozen = freezing.frozen_names(run.network.model, task.hyperparameters.freeze_layers)
    planned = task.hyperparameters.local_epochs * -(-len(run.shard.training) // batch_size)
    chain = CommitmentChain(task.base_digest, batch_seed(task.hyperparameters.seed, task.number))
    return SegmentRecorder(chain, run.network.model, frozen, planned, batch_size, task.replay)


def _resume(attempt: _TrainingAttempt, saved: CheckpointState) -> None:
    tensors.load_into(attempt.run.network.model, saved.model)
    attempt.optimizer.load_state_dict(saved.optimizer)
    torch.set_rng_state(saved.random)
    attempt.position = saved.position
    if attempt.recorder is not None and saved.recorder is not None:
        attempt.recorder.resume(saved.recorder)


def _save(attempt: _TrainingAttempt, checkpoint: Checkpoint) -> None:
    checkpoint.write(
        CheckpointState(
            position=attempt.position,
            effective=attempt.run.effective,
            model=tensors.state_of(attempt.run.network.model),
            optimizer=attempt.optimizer.state_dict(),
            random=torch.get_rng_state(),
            decisions=attempt.run.trained.decisions,
            recorder=attempt.recorder.state if attempt.recorder else None,
        )
    )


def load_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Any]) -> None:
    """Load the optimizer's moments, but not the last round's learning rate."""
    rates = [group["lr"] for group in optimizer.param_groups]
    # A copy: the optimizer writes into what it loads, and a repeated round needs the same moments.
    optimizer.load_state_dict(deepcopy(moments))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _epoch(attempt: _TrainingAttempt, batches: list[NDArray[np.int64]]) -> tuple[float, float]:
    """Train the epoch's batches from the attempt's position on. Return (mean loss, accuracy).

    A checkpoint is written after each quarter of the epoch, if one is due.
    """
    run, position = attempt.run, attempt.position
    network, task, data = run.network, run.task, run.shard.training
    network.model.train()
    ends = {round((index + 1) * len(batches) / _QUARTERS) for index in range(_QUARTERS)}
    for number, batch in enumerate(batches[position.step :], start=position.step + 1):
        if task.stop.is_set():
            raise StoppedError
        if run.memory_watch is not None:
            run.memory_watch.check()
        loss, right = step(network, data, batch, attempt.optimizer, task.hyperparameters, attempt.proximal)
        if not math.isfinite(loss):
            raise _DivergedError("the training loss is not finite")
        position.loss_sum += loss * len(batch)
        position.right += right
        position.step = number
        if attempt.recorder is not None:
            attempt.recorder.step(loss, len(batch), attempt.optimizer)
        if number in ends and task.checkpoint is not None and task.checkpoint.is_due:
            _save(attempt, task.checkpoint)
        task.progress((position.epoch + number / len(batches)) / task.hyperparameters.local_epochs)
    network.model.eval()
    return position.loss_sum / len(data), position.right / len(data)


def step(
    network: Network,
    data: EncodedTexts,
    batch: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    hyperparameters: Hyperparameters,
    proximal: ProximalTerm | None,
) -> tuple[float, int]:
    """Take one optimizer step.

    Return the batch's mean loss (nats) before the step, and the number of right predictions.
    """
    targets = data.targets(batch)
    with precision.autocast(network.model, enabled=hyperparameters.mixed_precision):
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
    if data.frozen_layers:
        return network.batch_logits(data, batch)
    ids, mask = data.batch(batch)
    return network.logits(hidden(network, ids), mask)


def hidden(network: Network, ids: torch.Tensor) -> torch.Tensor:
    """Return the ids with some words replaced by the unknown one, by the token dropout."""
    if not network.token_dropout:
        return ids
    words = ids >= network.first_word_id
    return torch.where(words & (torch.rand(ids.shape) < network.token_dropout), network.unknown_id, ids)
