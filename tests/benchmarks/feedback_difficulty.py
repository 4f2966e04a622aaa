"""How hard the generated feedback is.

    python -m tests.benchmarks.feedback_difficulty [epochs]

A bag of words is compared with a small transformer, which sees the order of the words. It takes
about two minutes on two cores.
"""

import sys
import time

import torch
from torch import Tensor, nn

from api.sample_data.generator import LABELS, Recipe, Sample, generate
from tests.benchmarks.bag_of_words import BUCKETS, accuracy, bag_of_words, hashed, labels

WIDTH, LENGTH, BATCH = 128, 48, 32


def tokens(samples: list[Sample]) -> Tensor:
    rows = [[0, *hashed(sample.text)[: LENGTH - 1]] for sample in samples]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])


class SmallTransformer(nn.Module):
    """Two encoder layers of width 128 over hashed words. A text is the mean of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(BUCKETS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, len(LABELS))
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (batch, length) to logits (batch, labels).

        Id 0 is the padding, and also marks the start in the first position.
        """
        used = ids != 0
        used[:, 0] = True
        hidden = self.encoder(self.words(ids) + self.places.weight[: ids.shape[1]], src_key_padding_mask=~used)
        mean = (hidden * used.unsqueeze(-1)).sum(1) / used.sum(1, keepdim=True)
        logits: Tensor = self.head(mean)
        return logits


def transformer(train: list[Sample], test: list[Sample], epochs: int) -> None:
    torch.manual_seed(0)
    model = SmallTransformer()
    x, y, x_test, y_test = tokens(train), labels(train, LABELS), tokens(test), labels(test, LABELS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.monotonic()
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.randperm(len(x)).split(BATCH):
            longest = int((x[batch] != 0).sum(1).max()) + 1
            loss = nn.functional.cross_entropy(model(x[batch, :longest]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            reached = accuracy(torch.cat([model(part) for part in x_test.split(500)]), y_test)
        print(f"transformer, epoch {epoch}: {reached:.1%} ({time.monotonic() - started:.0f} s)", flush=True)


def main(epochs: int) -> None:
    torch.set_num_threads(2)
    parts = dict(generate(Recipe(shards=4, samples=2500, test=1000, validation=500, seed=0, label_noise=0.02, typo_rate=0.03)))
    train = [sample for name, samples in parts.items() if name.startswith("shard") for sample in samples]
    print(f"bag of words: {bag_of_words(train, parts['test']):.1%}", flush=True)
    transformer(train, parts["test"], epochs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
