"""Fewer values: only the largest are sent, and where they belong."""

import numpy as np
import torch


def largest(flat: torch.Tensor, ratio: float) -> torch.Tensor:
    """Places of the `ratio` largest values by magnitude, at least one, ascending: int64 of shape (kept,).

    Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, arXiv:1809.07599. What is left out is not lost where the
    sender adds it to its next update (error feedback).
    """
    kept = max(1, round(ratio * flat.numel()))
    return flat.abs().topk(kept, sorted=False).indices.sort().values


def pack(places: torch.Tensor, length: int) -> torch.Tensor:
    """As a bitmap (uint8) or as int32 numbers, whichever is smaller."""
    if places.numel() * 32 > length:
        bits = np.zeros(length, np.uint8)
        bits[places.numpy()] = 1
        return torch.from_numpy(np.packbits(bits))
    return places.to(torch.int32)


def unpack(packed: torch.Tensor, length: int) -> torch.Tensor:
    """The places again. ValueError for any that are out of range, out of order or doubled."""
    if packed.dim() != 1:
        raise ValueError("places are a flat list")
    if packed.dtype == torch.uint8:
        bits = np.unpackbits(packed.numpy())
        if packed.numel() != -(-length // 8) or bits[length:].any():
            raise ValueError("the bitmap does not fit the model")
        return torch.from_numpy(np.flatnonzero(bits))
    if packed.dtype != torch.int32:
        raise ValueError("places are a bitmap or int32")
    places = packed.to(torch.int64)
    if places.numel() and (int(places[0]) < 0 or int(places[-1]) >= length or bool((places.diff() <= 0).any())):
        raise ValueError("a place lies outside the model, or comes twice")
    return places
