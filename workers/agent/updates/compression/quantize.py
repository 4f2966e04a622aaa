"""Quantization: fewer bits per value."""

import torch

_LEVELS = 127


def int8(values: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 values of the same shape, and fp32 scales of shape (channels,).

    Each row of dimension 0 has one scale. A value is rounded up or down at random, so that its
    expectation is exact. So the errors average out over workers and rounds (Alistarh et al.,
    "QSGD", NeurIPS 2017, arXiv:1610.02132).
    """
    rows = values.reshape(values.shape[0], -1) if values.dim() > 1 else values.reshape(1, -1)
    scales = rows.abs().amax(1) / _LEVELS
    steps = rows / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    rounded = (steps + torch.rand(steps.shape, generator=random)).floor_().clamp_(-_LEVELS, _LEVELS)
    return rounded.to(torch.int8).reshape(values.shape), scales


def from_int8(values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return the values as fp32.

    Raises:
        ValueError: when there is not one scale for each row.
    """
    channels = values.shape[0] if values.dim() > 1 else 1
    if scales.shape != (channels,):
        raise ValueError("the scales do not fit the values")
    return (values.reshape(channels, -1).to(torch.float32) * scales[:, None]).reshape(values.shape)
