"""The accuracy of each strategy on IID and non-IID shards, and of one process with all data.

    python -m tests.benchmarks.strategies [--data FOLDER] [--model minilm] [--samples 2500]
        [--rounds 4] [--only fedavg fedprox]

FOLDER holds `product_feedback` (IID) and `product_feedback_noniid` (labels by a Dirichlet
distribution). Krum, Multi-Krum and Bulyan need more updates than four workers send, so they are
left out. Each strategy runs with the same seed and one local epoch a round. The reference trains on
the four shards together for as many epochs.
"""

import argparse
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from api.domain import strategies
from tests.benchmarks.rows import row
from tests.benchmarks.simulated import Feedback
from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Hyperparameters

_STRATEGIES: dict[str, dict[str, float]] = {
    "fedavg": {},
    "fedprox": {"proximal_mu": 0.01},
    "fedavgm": {"server_momentum": 0.3},
    "fedadam": {},
    "fedyogi": {},
    "fedadagrad": {},
    "diloco": {"server_momentum": 0.3},
    "median": {},
    "trimmed_mean": {},
}
_ALIKE, _UNLIKE = "product_feedback", "product_feedback_noniid"
_POOLED = "one process, the shards together"


def wanted(given: argparse.Namespace, proximal_mu: float = 0.0, *, keep_moments: bool = False) -> list[Hyperparameters]:
    """Return a falling learning rate, as with `schedule: cosine`."""
    return [
        Hyperparameters(
            batch_size=32,
            learning_rate=given.learning_rate * 0.5 * (1 + math.cos(math.pi * number / given.rounds)),
            optimizer="adamw",
            mixed_precision=True,
            freeze_layers=given.frozen,
            proximal_mu=proximal_mu,
            keep_moments=keep_moments,
        )
        for number in range(given.rounds)
    ]


def measure(given: argparse.Namespace) -> None:
    # One thread each: two parallel runs are faster than one run on two threads.
    # The processes are spawned, because torch does not survive a fork.
    with ProcessPoolExecutor(2, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        alike, unlike = pool.map(_reached, (given, given), (_ALIKE, _UNLIKE))
    for name, reached in ((_ALIKE, alike), (_UNLIKE, unlike)):
        pooled = reached[_POOLED]
        row(f"{name}, {_POOLED}", f"{pooled:.2%}")
        for strategy in given.only:
            row(f"{name}, {strategy}", f"{reached[strategy]:.2%} ({100 * (reached[strategy] - pooled):+.2f} points)")
    if "fedavg" in alike:
        short = 100 * (alike["fedavg"] - alike[_POOLED])
        row(f"{_ALIKE}, FedAvg", f"{short:+.2f} points", "at most 0.5 points below one process")
    best = max(given.only, key=lambda strategy: unlike[strategy])
    short = 100 * (unlike[best] - unlike[_POOLED])
    row(f"{_UNLIKE}, the best: {best}", f"{short:+.2f} points", "at most 1.5 points below one process")


def _reached(given: argparse.Namespace, name: str) -> dict[str, float]:
    """Print the accuracy of the reference and of each strategy on one data set."""
    spec = ModelSpec(architecture="transformer", model=given.model, labels=["negative", "positive"])
    with tempfile.TemporaryDirectory() as scratch:
        feedback = Feedback.of(given.data / name, spec, Path(scratch), frozen=given.frozen, samples=given.samples)
        reached = {_POOLED: feedback.pooled().rounds(wanted(given))}
        for strategy in given.only:
            known = strategies.parameters(strategy, _STRATEGIES[strategy])
            server = StrategySpec(name=strategy, **{key: value for key, value in known.items() if key != "proximal_mu"})
            jobs = wanted(given, known.get("proximal_mu", 0.0), keep_moments=strategy == "diloco")
            reached[strategy] = feedback.rounds(jobs, server)
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=2500, help="of each shard")
    parser.add_argument("--frozen", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--only", nargs="+", choices=list(_STRATEGIES), default=list(_STRATEGIES))
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
