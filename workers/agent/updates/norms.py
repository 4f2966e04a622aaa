"""The distance between two states.

It is computed in one pass without copies, because large temporary tensors cost more than the sums.
"""

import math
from collections.abc import Mapping

import torch

_PIECE = 1 << 18


def distance(state: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]) -> tuple[float, float]:
    """Return the Euclidean norms of `state` - `base` and of `base`, over all tensors.

    Both have the same names and shapes. The distance is NaN or infinite where the state has such a
    value. It sums pieces in fp32, and the sums of the pieces in fp64. About four digits are right.
    """
    difference_squared = base_squared = 0.0
    scratch = torch.empty(_PIECE)
    for name, tensor in state.items():
        pairs = zip(tensor.reshape(-1).split(_PIECE), base[name].reshape(-1).split(_PIECE), strict=True)
        for new, old in pairs:
            difference = torch.sub(new, old, out=scratch[: len(new)])
            difference_squared += float(torch.linalg.vector_norm(difference)) ** 2
            base_squared += float(torch.linalg.vector_norm(old)) ** 2
    return math.sqrt(difference_squared), math.sqrt(base_squared)
