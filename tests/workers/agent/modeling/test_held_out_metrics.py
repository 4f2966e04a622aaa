import math
from pathlib import Path

import pytest
import torch

from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import samples, spec
from workers.agent.modeling.held_out_metrics import loss_and_accuracy, probabilities
from workers.agent.modeling.network import Network, build
from workers.agent.runtime.paths import SandboxRoot

ROWS = samples(300)
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    save_tiny_bert(tmp_path / "models/tiny")
    return build(spec("/models/tiny"), SandboxRoot(tmp_path))


def test_probabilities_come_in_the_texts_order_however_they_are_batched(network: Network) -> None:
    together = probabilities(network, network.encoded(TEXTS))
    assert together.shape == (300, 3)
    torch.testing.assert_close(together.sum(1), torch.ones(300), atol=1e-5, rtol=0)
    for index in (0, 17, 150, 299):
        alone = probabilities(network, network.encoded([TEXTS[index]]))
        torch.testing.assert_close(together[index], alone[0], atol=1e-5, rtol=0)
    assert probabilities(network, network.encoded([])).shape == (0, 3)


def test_a_score_is_the_mean_cross_entropy_and_the_share_that_is_right(network: Network) -> None:
    labels = [row["sentiment"] for row in ROWS]
    loss, accuracy = loss_and_accuracy(network, network.encoded(TEXTS, labels))
    table = probabilities(network, network.encoded(TEXTS)).tolist()
    index = {label: place for place, label in enumerate(network.spec.labels)}
    truth = [index[label] for label in labels]
    assert loss == pytest.approx(-sum(math.log(row[at]) for row, at in zip(table, truth, strict=True)) / 300, abs=1e-5)
    assert accuracy == pytest.approx(sum(row.index(max(row)) == at for row, at in zip(table, truth, strict=True)) / 300)
