"""FedYogi: Yogi on the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2.
"""

import torch


def second_moment(v: torch.Tensor, squared: torch.Tensor, beta_2: float) -> torch.Tensor:
    """Move v towards the squared update.

    The step does not depend on the distance, so v falls slowly.
    """
    return v - (1 - beta_2) * squared * torch.sign(v - squared)
