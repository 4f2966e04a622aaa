"""DP-SGD: steps on Poisson samples, with clipped per-example gradients and Gaussian noise.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133. The plan fixes
the number of steps, the sampling rate and the noise. No loss may change them, because a loss
depends on the data. So there is no early stop and no smaller learning rate. Any optimizer can be
used, because it sees only the noised mean.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.privacy.per_example import PerExampleGradients
from workers.agent.privacy.secret_random import SecretRandom
from workers.agent.protocol.training import DpSgdSpec
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.strategies.fedprox import ProximalTerm


@dataclass(frozen=True, slots=True)
class PrivateTraining:
    """DP-SGD of one worker for one round.

    `apply_token_dropout` maps a batch's token ids to ids of the same shape. `report_progress` gets
    the fraction of steps that are done, 0..1.
    """

    network: Network
    data: EncodedTexts
    plan: DpSgdSpec
    optimizer: torch.optim.Optimizer
    proximal: ProximalTerm | None
    apply_token_dropout: Callable[[torch.Tensor], torch.Tensor]
    stop: threading.Event
    report_progress: Callable[[float], None]

    def run(self) -> None:
        """Train for the plan's steps.

        Raises:
            StoppedError: between two steps once `stop` is set.
            AgentError: `shard_changed` when the plan was made for another number of records.
                `diverged` when the weights are not finite at the end.
        """
        self._require_planned_size()
        random, gradients = SecretRandom(), PerExampleGradients(self.network, self.plan.max_grad_norm)
        self.network.model.train()
        with gradients.prepared():
            for step in range(1, self.plan.steps + 1):
                if self.stop.is_set():
                    raise StoppedError
                self._step(random, gradients)
                self.report_progress(step / self.plan.steps)
        for parameter in self.network.model.parameters():
            parameter.grad = None
            if not bool(torch.isfinite(parameter).all()):
                raise AgentError("diverged", "the weights are not finite; try a lower learning rate")

    def _require_planned_size(self) -> None:
        if len(self.data) != self.plan.samples:
            message = f"the shard holds {len(self.data)} records; its privacy was planned for {self.plan.samples}."
            raise AgentError("shard_changed", f"{message} Stop and resume to plan anew")

    def _step(self, random: SecretRandom, gradients: PerExampleGradients) -> None:
        plan, data = self.plan, self.data
        parameters = dict(self.network.model.named_parameters())
        batch = random.sample(len(data), plan.sampling_rate)
        total = gradients.zeros()
        if len(batch):
            ids = self.apply_token_dropout(data.batch(batch)[0]) if not data.frozen_layers else None
            gradients.add(total, data, batch, ids)
        for name, tensor in total.items():
            tensor.add_(random.noise(tensor), alpha=plan.noise_multiplier * plan.max_grad_norm)
            parameters[name].grad = tensor.div_(plan.sampling_rate * plan.samples)
        if self.proximal is not None:
            self.proximal.add_to_gradients()
        self.optimizer.step()
