"""The floor: logistic regression on the counts of hashed words and pairs of words.

It has the same penalty as scikit-learn's default (C = 1), and one process has all texts.
"""

import itertools
import warnings
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.benchmarks.labelled_sets.set import LabelledSet, Sample
from workers.agent.modeling.hashed_words import words

_BUCKETS = 2**18
_C = 1.0
_STEPS = 60


def _features(text: str) -> list[int]:
    found = words(text)
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(found)]
    return [zlib.crc32(feature.encode(errors="surrogatepass")) % _BUCKETS for feature in (*found, *pairs)]


def _counts(samples: Sequence[Sample], columns: dict[int, int]) -> Tensor:
    """Return the counts as a sparse matrix, shape (texts, columns). Other buckets are left out."""
    rows = [[columns[bucket] for bucket in _features(text) if bucket in columns] for text, _ in samples]
    ends = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    found = torch.tensor([column for row in rows for column in row])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its sparse matrices a beta feature
        return torch.sparse_csr_tensor(ends, found, torch.ones(len(found)), (len(rows), len(columns)))


def accuracy(data: LabelledSet) -> float:
    """Fit the regression by L-BFGS; return the accuracy on the test texts."""
    index = {label: number for number, label in enumerate(data.labels)}
    truth = torch.tensor([index[label] for _, label in data.training])
    targets = torch.nn.functional.one_hot(truth, len(index)).float()
    buckets = sorted({bucket for text, _ in data.training for bucket in _features(text)})
    columns = {bucket: number for number, bucket in enumerate(buckets)}
    counts = _counts(data.training, columns)
    transposed = counts.to_sparse_coo().t().coalesce().to_sparse_csr()
    weight, bias = torch.zeros(len(columns), len(index)), torch.zeros(len(index))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe", history_size=10)

    def closure() -> Tensor:
        log_probabilities = (counts @ weight + bias).log_softmax(1)
        error = (log_probabilities.exp() - targets) / len(truth)
        weight.grad = transposed @ error + weight / (_C * len(truth))
        bias.grad = error.sum(0)
        return -(log_probabilities * targets).sum() / len(truth) + weight.square().sum() / (2 * _C * len(truth))

    optimizer.step(closure)
    found = (_counts(data.test, columns) @ weight + bias).argmax(1)
    right = torch.tensor([index.get(label, -1) for _, label in data.test])
    return float((found == right).float().mean())
