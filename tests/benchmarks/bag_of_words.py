"""A reference model that sees the words of a text, but not their order."""

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from api.sample_data.generator import Sample

BUCKETS = 16_384
_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
_WORD = re.compile(r"\w+|[^\w\s]")


def hashed(text: str) -> list[int]:
    """Return the buckets of the text's words and punctuation marks: 1..BUCKETS - 1."""
    return [1 + zlib.crc32(word.encode()) % (BUCKETS - 1) for word in _WORD.findall(text.lower())]


def classes(samples: Sequence[Sample]) -> list[str]:
    return sorted({sample.sentiment for sample in samples})


def labels(samples: Sequence[Sample], names: Sequence[str]) -> Tensor:
    return torch.tensor([names.index(sample.sentiment) for sample in samples])


def accuracy(logits: Tensor, truth: Tensor) -> float:
    return (logits.argmax(1) == truth).float().mean().item()


def _bags(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Return the buckets of all samples in a flat array, and the start of each sample.

    EmbeddingBag takes this form.
    """
    rows = [sorted(set(hashed(sample.text))) for sample in samples]
    sizes = torch.tensor([0, *(len(row) for row in rows[:-1])])
    return torch.tensor([bucket for row in rows for bucket in row]), sizes.cumsum(0)


class _Regression(nn.Module):
    """Multinomial logistic regression on the set of buckets of a text."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(BUCKETS, outputs, mode="sum")
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.zeros_(self.words.weight)

    def forward(self, buckets: Tensor, starts: Tensor) -> Tensor:
        logits: Tensor = self.words(buckets, starts) + self.bias
        return logits


def bag_of_words(train: Sequence[Sample], test: Sequence[Sample]) -> float:
    """Fit logistic regression with L2 by L-BFGS; return the best test accuracy of four penalties.

    The penalty is selected ON THE TEST SET, so the result is optimistic.
    """
    names = classes(train)
    x, y, x_test, y_test = _bags(train), labels(train, names), _bags(test), labels(test, names)
    best = 0.0
    for penalty in _PENALTIES:
        model = _Regression(len(names))
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60, line_search_fn="strong_wolfe")

        def closure(model: _Regression = model, penalty: float = penalty, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(*x), y) + penalty * model.words.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        best = max(best, accuracy(model(*x_test), y_test))
    return best
