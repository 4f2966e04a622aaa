"""DP-SGD: steps on Poisson samples, with clipped per-example gradients and Gaussian noise.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133. The number of steps, the sampling rate
and the noise are the plan's, whatever the data does: nothing that a loss says changes them, so no early stop and no smaller
learning rate. Any optimizer may follow: it sees the noised mean alone.
"""

import threading
from collections.abc import Callable

import torch

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.privacy.per_example import PerExampleGradients
from workers.agent.privacy.secret_random import SecretRandom
from workers.agent.protocol.training import DpSgdSpec
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.strategies.fedprox import ProximalTerm


def private_steps(
    network: Network,
    data: EncodedTexts,
    plan: DpSgdSpec,
    optimizer: torch.optim.Optimizer,
    proximal: ProximalTerm | None,
    hide: Callable[[torch.Tensor], torch.Tensor],
    stop: threading.Event,
    progress: Callable[[float], None],
) -> None:
    """Take the plan's steps. `hide` is the token dropout of a batch's ids.

    StoppedError between two steps once `stop` is set; AgentError `shard_changed` where the shard is not the one that was
    planned for, `diverged` when the noised weights are not finite.
    """
    if len(data) != plan.samples:
        message = (
            f"the shard holds {len(data)} records; its privacy was planned for {plan.samples}. Stop and resume to plan anew"
        )
        raise AgentError("shard_changed", message)
    secret, gradients = SecretRandom(), PerExampleGradients(network, plan.max_grad_norm)
    parameters = dict(network.model.named_parameters())
    expected = plan.sampling_rate * plan.samples
    network.model.train()
    with gradients.prepared():
        for step in range(1, plan.steps + 1):
            if stop.is_set():
                raise StoppedError
            batch = secret.sample(len(data), plan.sampling_rate)
            total = gradients.zeros()
            if len(batch):
                ids = hide(data.batch(batch)[0]) if data.activations is None else None
                gradients.add(total, data, batch, ids)
            for name, tensor in total.items():
                tensor.add_(secret.noise(tensor), alpha=plan.noise_multiplier * plan.max_grad_norm)
                parameters[name].grad = tensor.div_(expected)
            if proximal is not None:
                proximal.add_to_gradients()
            optimizer.step()
            progress(step / plan.steps)
    for parameter in parameters.values():
        parameter.grad = None
        if not bool(torch.isfinite(parameter).all()):
            raise AgentError("diverged", "the weights are not finite; try a lower learning rate")
