"""What each strategy reaches on shards that are alike and on shards that are not, beside one process with all the data.

    python -m tests.benchmarks.strategies [--data FOLDER] [--model minilm] [--samples 1000] [--rounds 4] [--only fedavg fedprox]

FOLDER holds `product_feedback` (IID) and `product_feedback_noniid` (labels by a Dirichlet distribution). Krum and its kin need
more updates than four workers send and are left out. Each strategy runs with the same
seed and one local epoch a round; the reference trains on the four shards together for as many epochs.
"""

import argparse
import math
import tempfile
from pathlib import Path

import torch

from api.domain import strategies
from tests.benchmarks.rows import row
from tests.benchmarks.simulated import Feedback
from workers.agent.protocol import Hyperparameters, ModelSpec, StrategySpec

# A pretrained model's weights move little: the adaptive servers' step is a tenth of their default.
_STRATEGIES: dict[str, dict[str, float]] = {
    "fedavg": {},
    "fedprox": {"proximal_mu": 0.01},
    "fedavgm": {"server_momentum": 0.3},
    "fedadam": {"server_learning_rate": 0.001},
    "fedyogi": {"server_learning_rate": 0.001},
    "fedadagrad": {"server_learning_rate": 0.001},
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


def measure(given: argparse.Namespace, scratch: Path) -> None:
    spec = ModelSpec(architecture="transformer", model=given.model, labels=["negative", "positive"])
    pooled = Feedback.of(given.data / _ALIKE, spec, scratch, frozen=given.frozen, samples=given.samples, pooled=True)
    reference = pooled.rounds(wanted(given))
    row("one process, the shards together", f"{reference:.2%}")
    for name, goal in ((_ALIKE, 0.005), (_UNLIKE, 0.015)):
        feedback = Feedback.of(given.data / name, spec, scratch, frozen=given.frozen, samples=given.samples)
        reached = {strategy: _one(given, feedback, strategy) for strategy in given.only}
        for strategy, accuracy in reached.items():
            row(f"{name}, {strategy}", f"{accuracy:.2%} ({100 * (accuracy - reference):+.2f} points)")
        best = max(reached, key=lambda strategy: reached[strategy])
        chosen, words = ("fedavg", "FedAvg") if name == _ALIKE and "fedavg" in reached else (best, f"the best, {best}")
        short = f"at most {100 * goal:g} points below one process"
        row(f"{name}, {words}", f"{100 * (reached[chosen] - reference):+.2f} points", short)


def _one(given: argparse.Namespace, feedback: Feedback, strategy: str) -> float:
    known = strategies.parameters(strategy, _STRATEGIES[strategy])  # type: ignore[arg-type]
    spec = StrategySpec(name=strategy, **{name: value for name, value in known.items() if name != "proximal_mu"})
    jobs = wanted(given, known.get("proximal_mu", 0.0), keep_moments=strategy == "diloco")
    return feedback.rounds(jobs, spec)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1000, help="of each shard")
    parser.add_argument("--frozen", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(_STRATEGIES), default=list(_STRATEGIES))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure(given, Path(folder))


if __name__ == "__main__":
    main()
