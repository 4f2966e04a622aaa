"""What a model knows about texts it has not trained on."""

import numpy as np
import torch
from torch import nn

from workers.agent.batches import Encoded, by_length
from workers.agent.model import Network

_BATCH = 128


def probabilities(network: Network, data: Encoded) -> torch.Tensor:
    """Shape (texts, classes), in the texts' order."""
    result = torch.empty(len(data), len(network.spec.labels))
    with torch.inference_mode():
        for batch in by_length(data.lengths, _BATCH):
            result[torch.from_numpy(batch)] = network.judge(data, batch).softmax(1)
    return result


def score(network: Network, data: Encoded) -> tuple[float, float]:
    """(mean cross-entropy in nats, fraction right)."""
    found = probabilities(network, data)
    targets = data.targets(np.arange(len(data)))
    loss = nn.functional.nll_loss(found.clamp_min(1e-12).log(), targets)
    return float(loss), float((found.argmax(1) == targets).float().mean())
