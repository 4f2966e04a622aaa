"""When a node with autonomy 0.8 declines a round: what it could send would not be worth having, or it cannot hold the model."""

import math
import shutil
from pathlib import Path

import numpy as np

from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.network import Network
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime import process

# Fewer samples make a gradient that says more about them than about the task.
FEWEST_SAMPLES = 8
# Cross-entropy of a base over that of a guess: beyond, it is confidently wrong on nearly everything that this node knows.
_HOPELESS = 5.0
# The model's own tensors and the copy that a round begins again from are there; gradients and the optimizer's state come.
_STATES = {"adam": 2, "adamw": 2, "rmsprop": 1, "adagrad": 1, "sgd": 0}
# The update, the own model, the next global one, and a checkpoint with the optimizer's state.
_FILES = 6


def reason(network: Network, shard: EncodedShard, wanted: Hyperparameters, folder: Path) -> str | None:
    """Why a round that begins with `network`'s weights is declined, without a word about the data; None where it is not.
    `folder` is where the round's files go."""
    return _unfit(shard) or _no_room(network, wanted, folder) or _hopeless(network, shard)


def _unfit(shard: EncodedShard) -> str | None:
    usable = len(shard.training)
    if usable < FEWEST_SAMPLES:
        return f"{usable} usable samples are fewer than {FEWEST_SAMPLES}"
    if len(np.unique(shard.training.labels)) < 2:  # type: ignore[arg-type]
        return "all usable samples have the same label"
    return None


def _no_room(network: Network, wanted: Hyperparameters, folder: Path) -> str | None:
    trained = sum(item.numel() for item in network.model.parameters() if item.requires_grad)
    size = sum(tensor.nbytes for tensor in network.model.state_dict().values())
    needed, left = size + 4 * trained * (1 + _STATES[wanted.optimizer]), process.memory_left()
    if left is not None and needed > left:
        return f"training the model takes {needed // 2**20} MiB of memory, and {max(0, left) // 2**20} MiB are left"
    files, free = _FILES * size, _free(folder)
    if files > free:
        return f"the round's files take {files // 2**20} MiB on disk, and {free // 2**20} MiB are left"
    return None


def _free(folder: Path) -> int:
    """Bytes; the folder itself may not be there yet."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def _hopeless(network: Network, shard: EncodedShard) -> str | None:
    loss, _ = loss_and_accuracy(network, shard.held_out)
    if not math.isfinite(loss):
        return "the global model's loss on this node's held-out samples is not finite"
    guess = math.log(len(network.spec.labels))
    if loss > _HOPELESS * guess:
        return f"the global model's loss on this node's held-out samples is {loss:.2f}; guessing has {guess:.2f}"
    return None
