"""Metrics of a model on texts that it has not trained on."""

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
    """Return the class probabilities: shape (texts, classes), in the order of the texts."""
    result = torch.empty(len(data), len(network.spec.labels))
    with torch.inference_mode():
        for batch in by_length(data.lengths, _BATCH):
            result[torch.from_numpy(batch)] = network.batch_logits(data, batch).softmax(1)
    return result


@dataclass(frozen=True, slots=True)
class HeldOutMetrics:
    """Mean cross-entropy in nats, accuracy 0..1, and the sums for a temperature."""

    loss: float
    accuracy: float
    calibration_sums: CalibrationSums


def measure(network: Network, data: EncodedTexts) -> HeldOutMetrics:
    """Return all metrics of labelled texts. It computes the probabilities once."""
    table = probabilities(network, data)
    targets = data.targets(np.arange(len(data)))
    return HeldOutMetrics(*_loss_and_accuracy(table, targets), calibration.calibration_sums(table, targets))


def loss_and_accuracy(network: Network, data: EncodedTexts) -> tuple[float, float]:
    """Return the mean cross-entropy in nats, and the accuracy 0..1."""
    return _loss_and_accuracy(probabilities(network, data), data.targets(np.arange(len(data))))


def _loss_and_accuracy(table: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    loss = nn.functional.nll_loss(table.clamp_min(1e-12).log(), targets)
    return float(loss), float((table.argmax(1) == targets).float().mean())
