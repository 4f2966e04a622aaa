"""How far an optimizer can take one parameter in so many steps, whatever the data: more was not made by training.

Adam: Kingma and Ba, ICLR 2015, arXiv:1412.6980, section 2.1; RMSprop and Adagrad by the same argument on their updates.
"""

from collections.abc import Mapping
from math import sqrt

import torch

from workers.agent.protocol.training import Hyperparameters

# Largest change of one parameter in one step, in learning rates, with torch's defaults; SGD has no such bound.
_REACH = {
    "adam": (1 - 0.9) / sqrt(1 - 0.999),
    "adamw": (1 - 0.9) / sqrt(1 - 0.999),
    "rmsprop": 1 / sqrt(1 - 0.99),
    "adagrad": 1.0,
}
_ROUNDING = 1.05


def too_far(start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], steps: int, wanted: Hyperparameters) -> bool:
    """Whether `end` cannot be `steps` of the optimizer away from `start`."""
    reach = _REACH.get(wanted.optimizer)
    if reach is None:
        return False
    for name, old in start.items():
        decay = wanted.weight_decay * float(torch.maximum(old.abs().max(), end[name].abs().max()))
        rounding = torch.finfo(torch.float32).eps * steps * float(old.abs().max())
        farthest = steps * wanted.learning_rate * (reach + decay) * _ROUNDING + rounding
        if float((end[name] - old).abs().max()) > farthest:
            return True
    return False
