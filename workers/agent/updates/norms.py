"""How far a state is from another, in one pass and without copies of them: large temporaries cost more than the sums."""

import math
from collections.abc import Mapping

import torch

_PIECE = 1 << 18


def distance(state: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]) -> tuple[float, float]:
    """(Euclidean norm of state - base, Euclidean norm of base) over all tensors; names and shapes are the same in both.

    The first is NaN or infinite where the state has such a value. Pieces are summed in fp32, pieces' sums in fp64: right to
    about four digits.
    """
    moved = own = 0.0
    scratch = torch.empty(_PIECE)
    for name, tensor in state.items():
        pairs = zip(tensor.reshape(-1).split(_PIECE), base[name].reshape(-1).split(_PIECE), strict=True)
        for new, old in pairs:
            step = torch.sub(new, old, out=scratch[: len(new)])
            moved += float(torch.linalg.vector_norm(step)) ** 2
            own += float(torch.linalg.vector_norm(old)) ** 2
    return math.sqrt(moved), math.sqrt(own)
