"""When a node with autonomy 0.8 declines a round.

Its update would be useless, or the model does not fit into its memory or on its disk.
"""

import math
import shutil
from pathlib import Path

from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.network import Network
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime import process

# A gradient of fewer samples describes these samples more than the task.
FEWEST_SAMPLES = 8
# The base's cross-entropy divided by that of a guess. Beyond this ratio the base is confidently
# wrong on nearly all of this node's samples.
_HOPELESS = 5.0
# Copies of the trained parameters in each optimizer's state. The model's tensors, and the copy that
# a round restarts from, are in memory already. Gradients and the optimizer's state are added.
_STATES = {"adam": 2, "adamw": 2, "rmsprop": 1, "adagrad": 1, "sgd": 0}
# The update, this worker's model, the next global model, and a checkpoint with optimizer state.
_FILES = 6


def reason(network: Network, shard: EncodedShard, hyperparameters: Hyperparameters, folder: Path) -> str | None:
    """Return why the node declines a round that begins with `network`'s weights, or None.

    The reason does not quote the data. `folder` is where the round's files are written.
    """
    return _unfit(shard) or _no_room(network, hyperparameters, folder) or _hopeless(network, shard)


def _unfit(shard: EncodedShard) -> str | None:
    usable = len(shard.training)
    if usable < FEWEST_SAMPLES:
        return f"{usable} usable samples are fewer than {FEWEST_SAMPLES}"
    return None


def _no_room(network: Network, hyperparameters: Hyperparameters, folder: Path) -> str | None:
    trained = sum(parameter.numel() for parameter in network.model.parameters() if parameter.requires_grad)
    size = sum(tensor.nbytes for tensor in network.model.state_dict().values())
    needed, left = size + 4 * trained * (1 + _STATES[hyperparameters.optimizer]), process.memory_left()
    if left is not None and needed > left:
        return f"training the model takes {needed // 2**20} MiB of memory, and {max(0, left) // 2**20} MiB are left"
    files, free = _FILES * size, _free(folder)
    if files > free:
        return f"the round's files take {files // 2**20} MiB on disk, and {free // 2**20} MiB are left"
    return None


def _free(folder: Path) -> int:
    """Return the free bytes on the folder's disk. The folder itself may not exist yet."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def _hopeless(network: Network, shard: EncodedShard) -> str | None:
    loss, _ = loss_and_accuracy(network, shard.held_out)
    if not math.isfinite(loss):
        return "the global model's loss on this node's held-out samples is not finite"
    guess = math.log(len(network.spec.labels))
    if loss > _HOPELESS * guess:
        return f"the global model's loss on this node's held-out samples is {loss:.2f}; guessing has {guess:.2f}"
    return None
