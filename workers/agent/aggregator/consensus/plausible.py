"""The farthest that an optimizer can move one parameter in a number of steps, on any data.

A larger change was not made by training. The bound for Adam is from Kingma and Ba, ICLR 2015,
arXiv:1412.6980, section 2.1. The same argument gives the bounds of RMSprop and Adagrad.
"""

from collections.abc import Mapping
from math import sqrt

import torch

from workers.agent.protocol.training import Hyperparameters

# The largest change of one parameter in one step, in learning rates, with torch's defaults. SGD has
# no such bound.
_REACH = {
    "adam": (1 - 0.9) / sqrt(1 - 0.999),
    "adamw": (1 - 0.9) / sqrt(1 - 0.999),
    "rmsprop": 1 / sqrt(1 - 0.99),
    "adagrad": 1.0,
}
_ROUNDING = 1.05


def too_far(
    start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], steps: int, hyperparameters: Hyperparameters
) -> bool:
    """Return whether the optimizer cannot get from `start` to `end` in `steps` steps."""
    reach = _REACH.get(hyperparameters.optimizer)
    if reach is None:
        return False
    for name, old in start.items():
        decay = hyperparameters.weight_decay * float(torch.maximum(old.abs().max(), end[name].abs().max()))
        rounding = torch.finfo(torch.float32).eps * steps * float(old.abs().max())
        farthest = steps * hyperparameters.learning_rate * (reach + decay) * _ROUNDING + rounding
        if float((end[name] - old).abs().max()) > farthest:
            return True
    return False
