"""FedProx: FedAvg whose clients are held near the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127: each client minimises its own
loss plus mu/2 ||w - w_global||^2. Only the gradient of the second term is needed: mu (w - w_global).
"""

from torch import nn


class ProximalTerm:
    """Holds a copy of the trainable parameters as the round began: memory for one more model."""

    def __init__(self, model: nn.Module, mu: float) -> None:
        self._mu = mu
        self._start = [(own, own.detach().clone()) for own in model.parameters() if own.requires_grad]

    def add_to_gradients(self) -> None:
        """Add mu (w - w_global) to each gradient; between `backward` and the optimiser's step."""
        for own, start in self._start:
            if own.grad is not None:
                own.grad.add_(own.detach() - start, alpha=self._mu)
