"""FedYogi: Yogi on the server. Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2."""

import torch


def second_moment(v: torch.Tensor, squared: torch.Tensor, beta_2: float) -> torch.Tensor:
    """Moves towards the squared update by a step that does not depend on how far away v is, so that v falls slowly."""
    return v - (1 - beta_2) * squared * torch.sign(v - squared)
