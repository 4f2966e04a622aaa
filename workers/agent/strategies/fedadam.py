"""FedAdam: Adam on the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2.
"""

import torch


def second_moment(v: torch.Tensor, squared: torch.Tensor, beta_2: float) -> torch.Tensor:
    """Return the exponential moving average of the squared updates."""
    return v * beta_2 + squared * (1 - beta_2)
