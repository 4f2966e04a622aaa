"""bf16 where the hardware has it."""

from collections.abc import Mapping

import torch
from torch import nn

from workers.agent.protocol.common import Decision


def has_bf16(kind: str, features: Mapping[str, object] | None = None) -> bool:
    """Whether a device (`cpu` or `cuda`) multiplies bf16 itself; emulated it would be slower than fp32. `features` are the
    CPU's, by default this machine's."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities() if features is None else features
    return any(value is True and name.endswith("bf16") for name, value in known.items())


def autocast(model: nn.Module, *, enabled: bool) -> torch.autocast:
    """Matrix products in bf16, everything delicate and all weights in fp32; does nothing where unwanted or unsupported.

    Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019, arXiv:1905.12322.
    """
    kind = next(model.parameters()).device.type
    return torch.autocast(kind, torch.bfloat16, enabled=enabled and has_bf16(kind))


def missing_bf16_decision(model: nn.Module) -> Decision | None:
    """What a node says when bf16 was asked for and its hardware has none."""
    kind = next(model.parameters()).device.type
    if has_bf16(kind):
        return None
    return Decision(action="ignore_mixed_precision", reason=f"this {kind} has no bf16 instructions; fp32 is faster")
