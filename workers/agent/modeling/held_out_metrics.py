"""What a model knows about texts it has not trained on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from workers.agent.datasets.batches import EncodedTexts, by_length
from workers.agent.modeling import calibration
from workers.agent.modeling.network import Network
from workers.agent.protocol.inference import CalibrationSums

_BATCH = 64


def probabilities(network: Network, data: EncodedTexts) -> torch.Tensor:
    """Shape (texts, classes), in the texts' order."""
    result = torch.empty(len(data), len(network.spec.labels))
    with torch.inference_mode():
        for batch in by_length(data.lengths, _BATCH):
            result[torch.from_numpy(batch)] = network.batch_logits(data, batch).softmax(1)
    return result


@dataclass(frozen=True, slots=True)
class HeldOutMetrics:
    """Mean cross-entropy in nats, fraction right, and what a temperature is fitted to."""

    loss: float
    accuracy: float
    calibration_sums: CalibrationSums


def measure(network: Network, data: EncodedTexts) -> HeldOutMetrics:
    """One pass over labelled texts for all that is to be known of them."""
    found = probabilities(network, data)
    targets = data.targets(np.arange(len(data)))
    return HeldOutMetrics(*_score(found, targets), calibration.calibration_sums(found, targets))


def loss_and_accuracy(network: Network, data: EncodedTexts) -> tuple[float, float]:
    """(mean cross-entropy in nats, fraction right)."""
    return _score(probabilities(network, data), data.targets(np.arange(len(data))))


def _score(found: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    loss = nn.functional.nll_loss(found.clamp_min(1e-12).log(), targets)
    return float(loss), float((found.argmax(1) == targets).float().mean())
