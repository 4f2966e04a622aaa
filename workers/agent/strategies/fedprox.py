"""FedProx: FedAvg with a proximal term that keeps the clients near the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127. Each
client minimises its own loss plus mu/2 ||w - w_global||^2. Only the gradient of the second term is
needed: mu (w - w_global).
"""

from torch import nn


class ProximalTerm:
    """The gradient of the proximal term.

    It keeps a copy of the trainable parameters from the start of the round. So it needs the memory
    of one more model.
    """

    def __init__(self, model: nn.Module, mu: float) -> None:
        self._mu = mu
        self._start = [(parameter, parameter.detach().clone()) for parameter in model.parameters() if parameter.requires_grad]

    def add_to_gradients(self) -> None:
        """Add mu (w - w_global) to each gradient.

        Call it between `backward` and the optimizer's step.
        """
        for parameter, start in self._start:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self._mu)
