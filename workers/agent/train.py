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

from workers.agent import freezing, precision, tensors
from workers.agent.autonomy import EARLY_STOP, HALVE_RATE, may
from workers.agent.batches import Encoded, shuffled
from workers.agent.consensus.commitment import Chain, seed_word
from workers.agent.consensus.recording import Recorder
from workers.agent.errors import AgentError, StoppedError
from workers.agent.evaluate import score
from workers.agent.model import RNG, Network
from workers.agent.privacy.dp_sgd import private_steps
from workers.agent.protocol import Autonomy, Commitment, Decision, Hyperparameters
from workers.agent.strategies.fedprox import Proximal

# Fused: one pass over each parameter instead of a dozen. On small models the step is otherwise half of the time.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": partial(torch.optim.Adagrad, fused=True),
}
_MOST_HALVINGS = 5
_DIVERGED = 2.0


@dataclass(frozen=True, slots=True)
class Shard:
    """A worker's samples as token ids."""

    training: Encoded
    held_out: Encoded


@dataclass(frozen=True, slots=True)
class Job:
    """One round's local training. `commit` asks for a proof-of-learning commitment to `base_digest`, with checkpoints in the
    folder `replay`, if any; `moments` is the state that the optimizer goes on from, if any."""

    number: int
    wanted: Hyperparameters
    autonomy: Autonomy
    base_digest: str
    commit: bool
    stop: threading.Event
    progress: Callable[[float], None]
    moments: dict[str, Any] | None = None
    replay: Path | None = None


@dataclass(slots=True)
class Trained:
    """Loss (nats) and accuracy of the last local epoch, not a number where they are private; seconds of all."""

    loss: float = math.nan
    accuracy: float = math.nan
    seconds: float = 0.0
    commitment: Commitment | None = None
    decisions: list[Decision] = field(default_factory=list)
    moments: dict[str, Any] | None = None


class _DivergedError(Exception):
    """The loss is not finite, or an epoch ended far above both the first and a guess."""


def train(network: Network, shard: Shard, job: Job) -> Trained:
    """Train `network` in place. Deterministic for a seed, a round number and a number of threads.

    Raises StoppedError between two batches once `job.stop` is set, AgentError `diverged` where the node may not, or could
    not, mend a diverging loss by halving its learning rate.
    """
    started = time.perf_counter()
    found = Trained()
    base = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    rate = job.wanted.learning_rate
    if job.wanted.mixed_precision and (refusal := precision.refusal(network.model)):
        found.decisions.append(refusal)
    with (
        RNG,
        torch.random.fork_rng(devices=[]),
        freezing.frozen(network.model, job.wanted.freeze_layers) as parameters,
    ):
        while True:
            torch.manual_seed(job.wanted.seed * 1_000_003 + job.number)
            try:
                _epochs(network, parameters, shard, job, rate, found)
                break
            except _DivergedError as error:
                halvings = sum(decision.action == HALVE_RATE.action for decision in found.decisions)
                if not may(HALVE_RATE, job.autonomy) or halvings == _MOST_HALVINGS:
                    raise AgentError("diverged", f"{error}; try a lower learning rate") from None
                rate /= 2
                tensors.load_into(network.model, base)
                found.decisions.append(HALVE_RATE.decision(f"{error}; trying again with {rate:g}"))
            finally:
                network.model.eval()
    found.seconds = time.perf_counter() - started
    return found


def _epochs(network: Network, parameters: list[nn.Parameter], shard: Shard, job: Job, rate: float, found: Trained) -> None:
    wanted = job.wanted
    optimizer = OPTIMIZERS[wanted.optimizer](parameters, lr=rate, weight_decay=wanted.weight_decay)
    if job.moments is not None:
        _go_on_from(optimizer, job.moments)
    proximal = Proximal(network.model, wanted.proximal_mu) if wanted.proximal_mu else None
    if wanted.privacy is not None:
        hide = partial(_hide, network)
        private_steps(network, shard.training, wanted.privacy, optimizer, proximal, hide, job.stop, job.progress)
        found.moments = optimizer.state_dict() if wanted.keep_moments else None
        return
    recorder = _recorder(network, shard, job, optimizer) if job.commit else None
    first_loss = best_held_out = math.inf
    guessing = math.log(len(network.spec.labels))
    for epoch in range(wanted.local_epochs):
        batches = shuffled(shard.training.lengths, wanted.batch_size, (wanted.seed, job.number, epoch))
        found.loss, found.accuracy = _epoch(network, shard.training, batches, optimizer, job, epoch, recorder, proximal)
        first_loss = found.loss if epoch == 0 else first_loss
        # A small loss wavers by more than its double and is no divergence while it beats a guess.
        if found.loss > _DIVERGED * max(first_loss, guessing):
            raise _DivergedError("the training loss more than doubled")
        if may(EARLY_STOP, job.autonomy) and epoch + 1 < wanted.local_epochs:
            held_out, _ = score(network, shard.held_out)
            if held_out > best_held_out:
                reason = f"the held-out loss rose from {best_held_out:.4f} to {held_out:.4f} after local epoch {epoch + 1}"
                found.decisions.append(EARLY_STOP.decision(reason))
                break
            best_held_out = held_out
    found.commitment = recorder.finish() if recorder else None
    found.moments = optimizer.state_dict() if wanted.keep_moments else None


def _recorder(network: Network, shard: Shard, job: Job, optimizer: torch.optim.Optimizer) -> Recorder:
    frozen = freezing.frozen_names(network.model, job.wanted.freeze_layers)
    planned = job.wanted.local_epochs * -(-len(shard.training) // job.wanted.batch_size)
    chain = Chain(job.base_digest, seed_word(job.wanted.seed, job.number))
    recorder = Recorder(chain, network.model, frozen, planned, job.replay)
    recorder.begin(optimizer)
    return recorder


def _go_on_from(optimizer: torch.optim.Optimizer, moments: dict[str, Any]) -> None:
    """Take over the moments, but not the last round's learning rate."""
    rates = [group["lr"] for group in optimizer.param_groups]
    # A copy: the optimizer writes into what it is given, and a round that is begun again must find it as it was.
    optimizer.load_state_dict(deepcopy(moments))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _epoch(
    network: Network,
    data: Encoded,
    batches: list[NDArray[np.int64]],
    optimizer: torch.optim.Optimizer,
    job: Job,
    epoch: int,
    recorder: Recorder | None,
    proximal: Proximal | None,
) -> tuple[float, float]:
    """(mean loss, accuracy) over one epoch."""
    network.model.train()
    loss_sum, right = 0.0, 0
    for number, batch in enumerate(batches, start=1):
        if job.stop.is_set():
            raise StoppedError
        value, correct = step(network, data, batch, optimizer, job.wanted, proximal)
        if not math.isfinite(value):
            raise _DivergedError("the training loss is not finite")
        loss_sum += value * len(batch)
        right += correct
        if recorder is not None:
            recorder.step(value, len(batch), optimizer)
        job.progress((epoch + number / len(batches)) / job.wanted.local_epochs)
    network.model.eval()
    return loss_sum / len(data), right / len(data)


def step(
    network: Network,
    data: Encoded,
    batch: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    wanted: Hyperparameters,
    proximal: Proximal | None,
) -> tuple[float, int]:
    """One step of the optimizer; (the batch's mean loss before it, how many of its samples were right)."""
    targets = data.targets(batch)
    with precision.autocast(network.model, wanted=wanted.mixed_precision):
        logits = _logits(network, data, batch).float()
    loss = nn.functional.cross_entropy(logits, targets, label_smoothing=network.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if proximal is not None:
        proximal.add_to_gradients()
    optimizer.step()
    value = float(nn.functional.cross_entropy(logits.detach(), targets))
    return value, int((logits.detach().argmax(1) == targets).sum())


def _logits(network: Network, data: Encoded, batch: NDArray[np.int64]) -> torch.Tensor:
    if data.trunk is not None:
        return network.judge(data, batch)
    ids, mask = data.batch(batch)
    return network.logits(_hide(network, ids), mask)


def _hide(network: Network, ids: torch.Tensor) -> torch.Tensor:
    if not network.token_dropout:
        return ids
    words = ids >= network.first_word_id
    return torch.where(words & (torch.rand(ids.shape) < network.token_dropout), network.unknown_id, ids)
