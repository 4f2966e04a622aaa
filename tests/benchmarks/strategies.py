"""What each strategy reaches on shards that are alike and on shards that are not, beside one process with all the data.

    python -m tests.benchmarks.strategies [--data FOLDER] [--model minilm] [--samples 1000] [--rounds 4] [--only fedavg fedprox]

FOLDER holds `product_feedback` (IID) and `product_feedback_noniid` (labels by a Dirichlet distribution). Krum and its kin need
more updates than four workers send and are left out. Each strategy runs with the same
seed and one local epoch a round; the reference trains on the four shards together for as many epochs.
"""

import argparse
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import torch

from api.domain import strategies
from tests.benchmarks.rows import row
from tests.benchmarks.simulated import Feedback
from workers.agent.protocol import Hyperparameters, ModelSpec, StrategySpec

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


def wanted(given: argparse.Namespace, proximal_mu: float = 0.0, *, keep_moments: bool = False) -> list[Hyperparameters]:
    """A falling rate, as the trainings' `schedule: cosine` has it."""
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
    jobs = [(name, strategy) for name in (_ALIKE, _UNLIKE) for strategy in given.only]
    # One thread each: two runs side by side are faster than one on two threads. Spawned: torch does not survive a fork.
    with ProcessPoolExecutor(given.processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        pooled = pool.submit(_one, given, _ALIKE, "fedavg", pooled=True)
        found = [pool.submit(_one, given, *job) for job in jobs]
        reference = pooled.result()
        row("one process, the shards together", f"{reference:.2%}")
        reached: dict[tuple[str, str], float] = {}
        for job, future in zip(jobs, found, strict=True):
            reached[job] = future.result()
            row(", ".join(job), f"{reached[job]:.2%} ({100 * (reached[job] - reference):+.2f} points)")
    alike = reached.get((_ALIKE, "fedavg"))
    if alike is not None:
        row(f"{_ALIKE}, FedAvg", f"{100 * (alike - reference):+.2f} points", "at most 0.5 points below one process")
    best = max(given.only, key=lambda strategy: reached[_UNLIKE, strategy])
    short = f"{100 * (reached[_UNLIKE, best] - reference):+.2f} points"
    row(f"{_UNLIKE}, the best: {best}", short, "at most 1.5 points below one process")


def _one(given: argparse.Namespace, name: str, strategy: str, *, pooled: bool = False) -> float:
    known = strategies.parameters(strategy, _STRATEGIES[strategy])  # type: ignore[arg-type]
    spec = StrategySpec(name=strategy, **{key: value for key, value in known.items() if key != "proximal_mu"})
    jobs = wanted(given, known.get("proximal_mu", 0.0), keep_moments=strategy == "diloco")
    return _feedback(given.data / name, given.model, given.frozen, given.samples, pooled=pooled).rounds(jobs, spec)


@lru_cache(1)
def _feedback(folder: Path, model: str, frozen: int, samples: int, *, pooled: bool) -> Feedback:
    spec = ModelSpec(architecture="transformer", model=model, labels=["negative", "positive"])
    with tempfile.TemporaryDirectory() as scratch:
        return Feedback.of(folder, spec, Path(scratch), frozen=frozen, samples=samples, pooled=pooled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1000, help="of each shard")
    parser.add_argument("--frozen", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(_STRATEGIES), default=list(_STRATEGIES))
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
