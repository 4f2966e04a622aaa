"""`flow-nexus data`: generate example data, and check and split files of labelled texts."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from api.cli.datasets import reader, writer
from api.cli.datasets.check import TEXT_FIELD, FileSample, check, usable
from api.cli.datasets.parameters import FileArgument, LabelField, SiteColumn, Skew, SkipBadRows, TestShare, TextField
from api.cli.datasets.split import SplitOptions, split
from api.cli.errors import FAILURE, UsageError
from api.cli.output.printing import cell, facts, plain, table
from api.cli.session import Session, group, with_session
from api.sample_data import generator
from api.sample_data.generator import LABELS, ExhaustedError, Recipe, generate
from api.sample_data.writer import PREFIX, write

app = group("Data for trainings: generate, check, split.")


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


@app.command("check")
@with_session
def check_file(
    session: Session,
    file: FileArgument,
    text_field: TextField = None,
    label_field: LabelField = None,
) -> None:
    """Show what a file of labelled texts holds and what is wrong with it. Nothing is uploaded.

    The exit code is 1 when rows have problems.
    """
    source = reader.read(file, text_field or TEXT_FIELD)
    report = check(source, text_field, label_field)
    payload = {
        "path": str(file),
        "format": source.format,
        "rows": len(source.rows),
        "usable_rows": len(report.samples),
        "text_field": report.text_field,
        "label_field": report.label_field,
        "labels": report.labels,
        "problems": report.problems,
        "notices": report.notices,
    }
    session.show_local(payload, lambda: facts((name.replace("_", " "), _lines(value)) for name, value in payload.items()))
    if report.problems or not report.samples:
        raise typer.Exit(FAILURE)


@app.command("split")
@with_session
def split_file(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    file: FileArgument,
    shards: Annotated[int | None, typer.Option(min=1, max=1000, help="The number of training files.")] = None,
    skew: Skew = None,
    site_column: SiteColumn = None,
    test: TestShare = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    skip_bad_rows: SkipBadRows = False,
    text_field: TextField = None,
    label_field: LabelField = None,
    out: Annotated[Path, typer.Option(help="The folder of the files.")] = Path("data"),
) -> None:
    """Split a file of labelled texts into one file for each worker.

    All get the labels in equal shares, unless --skew or --site-column is given.
    """
    report = usable(file, text_field, label_field, skip_bad_rows=skip_bad_rows)
    files = writer.files_of(out, *split(report.samples, SplitOptions(shards, skew, site_column, test, seed)))
    writer.write(files)
    _show_split(session, files, report.bad_rows)


def _show_split(session: Session, files: Mapping[Path, Sequence[FileSample]], skipped: int) -> None:
    counts = {path: Counter(sample.label for sample in part) for path, part in files.items()}
    labels = sorted({label for count in counts.values() for label in count})
    shown = [
        {"path": str(path), "samples": count.total(), "labels": {label: count[label] for label in labels}}
        for path, count in counts.items()
    ]
    rows = (
        (cell(str(path)), cell(f"{count.total():,}"), *(cell(f"{count[label]:,}") for label in labels))
        for path, count in counts.items()
    )
    numbers = ("samples", *labels)
    session.show_local(
        {"files": shown, "skipped_rows": skipped},
        lambda: table(("file", *map(plain, numbers)), rows, right=map(plain, numbers)),
    )


def _lines(value: object) -> Text:
    """Return a value of a report for people: lists and counts have one item on a line."""
    if isinstance(value, dict):
        value = [f"{name}  {count:,}" for name, count in value.items()]
    if isinstance(value, list):
        return Text("\n".join(plain(item) for item in value) or "none")
    return cell(value)


def _describe(path: Path) -> _DataFile:
    content = path.read_bytes()
    counts = Counter(generator.Sample(**sample).sentiment for sample in json.loads(content))
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
