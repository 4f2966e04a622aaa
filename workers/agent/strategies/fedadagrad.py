"""FedAdagrad: Adagrad on the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2.
"""

import torch


def second_moment(v: torch.Tensor, squared: torch.Tensor, _: float) -> torch.Tensor:
    """Return the sum of all squared updates."""
    return v + squared
