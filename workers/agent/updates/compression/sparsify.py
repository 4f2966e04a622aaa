"""Sparsification: only the largest values are sent, with their places."""

import numpy as np
import torch


def largest(flat: torch.Tensor, ratio: float) -> torch.Tensor:
    """Return the places of the largest values by magnitude, ascending: int64 of shape (kept,).

    It keeps the fraction `ratio` of the values, at least one.
    Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, arXiv:1809.07599. The sender adds the
    omitted values to its next update (error feedback), so that they are not lost.
    """
    kept = max(1, round(ratio * flat.numel()))
    return flat.abs().topk(kept, sorted=False).indices.sort().values


def pack(places: torch.Tensor, length: int) -> torch.Tensor:
    """Return the places as a bitmap (uint8) or as int32 indices, whichever is smaller."""
    if places.numel() * 32 > length:
        bits = np.zeros(length, np.uint8)
        bits[places.numpy()] = 1
        return torch.from_numpy(np.packbits(bits))
    return places.to(torch.int32)


def unpack(packed: torch.Tensor, length: int) -> torch.Tensor:
    """Return the places as int64.

    Raises:
        ValueError: for places that are out of range, out of order or repeated.
    """
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
