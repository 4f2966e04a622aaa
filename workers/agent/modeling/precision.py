"""Mixed precision: bf16 where the hardware supports it."""

from collections.abc import Mapping

import torch
from torch import nn

from workers.agent.protocol.common import Decision


def has_bf16(device: str, features: Mapping[str, object] | None = None) -> bool:
    """Return whether a device (`cpu` or `cuda`) multiplies bf16 in hardware.

    Emulated bf16 would be slower than fp32. `features` are the CPU's, by default those of this
    machine.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities() if features is None else features
    return any(value is True and name.endswith("bf16") for name, value in known.items())


def autocast(model: nn.Module, *, enabled: bool) -> torch.autocast:
    """Return a context for training in mixed precision.

    Matrix products use bf16. Sensitive operations and all weights stay fp32. The context changes
    nothing when it is not enabled or not supported. Kalamkar et al., "A Study of BFLOAT16 for Deep
    Learning Training", 2019, arXiv:1905.12322.
    """
    device = next(model.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=enabled and has_bf16(device))


def missing_bf16_decision(model: nn.Module) -> Decision | None:
    """Return the decision to ignore mixed precision, if the hardware has no bf16."""
    device = next(model.parameters()).device.type
    if has_bf16(device):
        return None
    return Decision(action="ignore_mixed_precision", reason=f"this {device} has no bf16 instructions; fp32 is faster")
