"""`flow-nexus data`: the generator of example data."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from api.cli.errors import UsageError
from api.cli.output.printing import cell, table
from api.cli.session import Session, group, with_session
from api.sample_data.generator import LABELS, ExhaustedError, Recipe, Sample, generate
from api.sample_data.writer import PREFIX, write

app = group("Example data for trainings.")


@dataclass(frozen=True, slots=True)
class _DataFile:
    path: str
    samples: int
    labels: dict[str, int]
    size: int
    sha256: str


@app.command("generate")
@with_session
def generate_files(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    shards: Annotated[int, typer.Option(min=1, max=1000, help="The number of training files.")] = 4,
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="The number of samples in each training file.")] = 2500,
    test: Annotated[
        int, typer.Option(min=0, max=100_000, help="The number of samples in the test file; 0 means no file.")
    ] = 1000,
    validation: Annotated[
        int, typer.Option(min=0, max=100_000, help="The number of samples in the validation file; 0 means no file.")
    ] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    label_noise: Annotated[float, typer.Option(min=0, max=0.5, help="The share of wrong labels in the training files.")] = 0.02,
    typo_rate: Annotated[
        float, typer.Option(min=0, max=1, help="The probability of a typing error in each longer word.")
    ] = 0.03,
    out: Annotated[Path, typer.Option(help="The folder of the files.")] = Path("data"),
    prefix: Annotated[str, typer.Option(help="The start of each file name.")] = PREFIX,
) -> None:
    """Write synthetic customer feedback with the labels positive, negative and neutral."""
    if not prefix or Path(prefix).name != prefix:
        raise UsageError("--prefix must be the start of a file name")
    recipe = Recipe(shards, samples, test, validation, seed, label_noise, typo_rate)
    try:
        with session.busy("generating"):
            paths = write(out, generate(recipe), prefix)
    except ExhaustedError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or out} cannot be written: {error.strerror}") from None
    files = [_describe(path) for path in paths.values()]
    session.show_local({"seed": seed, "files": [asdict(file) for file in files]}, lambda: _view(files))


def _describe(path: Path) -> _DataFile:
    content = path.read_bytes()
    counts = Counter(Sample(**sample).sentiment for sample in json.loads(content))
    return _DataFile(
        path=str(path),
        samples=counts.total(),
        labels={label: counts[label] for label in LABELS},
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _view(files: list[_DataFile]) -> Table:
    rows = ((cell(file.path), *(cell(f"{count:,}") for count in (file.samples, *file.labels.values()))) for file in files)
    numbers = ("samples", *LABELS)
    return table(("file", *numbers), rows, right=numbers)
