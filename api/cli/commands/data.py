"""`flow-nexus data`: generate example data, and check and split files of labelled texts."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from api.cli.datasets import reader, split
from api.cli.datasets.check import FileSample, check
from api.cli.errors import FAILURE, UsageError
from api.cli.output.printing import cell, facts, plain, table
from api.cli.session import Session, group, with_session
from api.sample_data import generator
from api.sample_data.generator import LABELS, ExhaustedError, Recipe, generate
from api.sample_data.writer import PREFIX, write

app = group("Data for trainings: generate, check, split.")

FileArgument = Annotated[Path, typer.Argument(help="A JSON array, JSON Lines, CSV or TSV.", metavar="FILE")]
TextField = Annotated[str | None, typer.Option(help="The field with the text. Default: text.", metavar="NAME")]
LabelField = Annotated[
    str | None,
    typer.Option(help="The field with the label. Default: sentiment, label, labels or category.", metavar="NAME"),
]


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
    source = reader.read(file)
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
    skew: Annotated[
        float | None, typer.Option(min=0.001, max=1000, help="Draw label shares from a Dirichlet: 0.3 is uneven, 100 is even.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="One file for each value of this column.", metavar="COLUMN")] = None,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="The share of each label that goes to a test file.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that have problems.")] = False,
    text_field: TextField = None,
    label_field: LabelField = None,
    out: Annotated[Path, typer.Option(help="The folder of the files.")] = Path("data"),
) -> None:
    """Split a file of labelled texts into one file for each worker.

    All get the labels in equal shares.
    """
    if (by is None) == (shards is None) or (by is not None and skew is not None):
        raise UsageError("give --shards N, with --skew if you like, or --by COLUMN")
    report = check(reader.read(file), text_field, label_field)
    if report.problems and not skip_bad_rows:
        raise UsageError(f"{file}: {report.problems[0]}; see `flow-nexus data check`, or use --skip-bad-rows")
    samples, held_out = split.hold_out(report.samples, test, seed)
    if len(samples) < (shards or 1):
        raise UsageError(f"{file} has {len(samples)} samples for {shards} files")
    if by is not None:
        parts = split.by_column(samples, by)
    elif skew is not None:
        parts = split.skewed(samples, shards or 1, skew, seed)
    else:
        parts = split.stratified(samples, shards or 1, seed)
    files = {out / f"train_{number}.json": part for number, part in enumerate(parts, 1)}
    files |= {out / "test.json": held_out} if held_out else {}
    _write(files)
    _show_split(session, files, report.bad_rows)


def _write(files: dict[Path, list[FileSample]]) -> None:
    """Write JSON arrays with one sample on a line."""
    for path, part in files.items():
        lines = (json.dumps({"text": sample.text, "sentiment": sample.label}, ensure_ascii=False) for sample in part)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _show_split(session: Session, files: dict[Path, list[FileSample]], skipped: int) -> None:
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
