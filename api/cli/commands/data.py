"""`flow-nexus data`: the generator of example data."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from api.cli.errors import UsageError
from api.cli.output.printing import cell, table
from api.cli.session import Session, group, with_session
from api.sample_data.generator import LABELS, ExhaustedError, Recipe, generate
from api.sample_data.writer import PREFIX, write

app = group("Example data to train on.")


@app.command("generate")
@with_session
def generate_files(
    session: Session,
    shards: Annotated[int, typer.Option(min=1, max=1000, help="Training files.")] = 4,
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="In each shard.")] = 2500,
    test: Annotated[int, typer.Option(min=0, max=100_000, help="In the test file; 0 makes none.")] = 1000,
    validation: Annotated[int, typer.Option(min=0, max=100_000, help="In the validation file; 0 makes none.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    label_noise: Annotated[float, typer.Option(min=0, max=0.5, help="Share of wrong labels in the shards.")] = 0.02,
    typo_rate: Annotated[float, typer.Option(min=0, max=1, help="Chance of a slip in each longer word.")] = 0.03,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("data"),
    prefix: Annotated[str, typer.Option(help="How the files' names begin.")] = PREFIX,
) -> None:
    """Write synthetic customer feedback, labelled positive, negative and neutral."""
    if not prefix or Path(prefix).name != prefix:
        raise UsageError("--prefix must be the beginning of a file name")
    recipe = Recipe(shards, samples, test, validation, seed, label_noise, typo_rate)
    try:
        with session.busy("composing"):
            paths = write(out, generate(recipe), prefix)
    except ExhaustedError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or out} cannot be written: {error.strerror}") from None
    session.show({"seed": seed, "files": [_described(path) for path in paths.values()]}, _view)


def _described(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    found = Counter(sample["sentiment"] for sample in json.loads(content))
    return {
        "path": str(path),
        "samples": found.total(),
        "labels": {label: found[label] for label in LABELS},
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _view(answer: dict[str, Any]) -> Table:
    rows = (
        (cell(item["path"]), *(cell(f"{count:,}") for count in (item["samples"], *item["labels"].values())))
        for item in answer["files"]
    )
    numbers = ("samples", *LABELS)
    return table(("file", *numbers), rows, right=numbers)
