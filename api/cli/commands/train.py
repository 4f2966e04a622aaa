"""`flow-nexus train`: the whole walkthrough on a file of the user's own."""

import re
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from api.cli.datasets import writer
from api.cli.datasets.check import Report, usable
from api.cli.datasets.parameters import FileArgument, LabelField, SiteColumn, Skew, SkipBadRows, TestShare, TextField
from api.cli.datasets.split import SplitOptions, split
from api.cli.errors import UsageError
from api.cli.output import printing
from api.cli.session import Session, given, with_session
from api.cli.training_options import with_training_options
from api.cli.walkthrough import service, summary
from api.cli.walkthrough.plan import DataFiles, Outcome, Plan
from api.cli.walkthrough.screen import Screen
from api.cli.walkthrough.walk import Walkthrough

# Fewer samples in a shard are refused by the service.
_FEWEST_SAMPLES: Final = 4
_DEFAULT_WORKERS: Final = 4
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# The command chooses these itself, from the file and from how it splits it.
_OWN_OPTIONS: Final = ("dataset", "validation", "text_field", "label_field", "on_bad_rows", "federated")


@dataclass(frozen=True, slots=True)
class _Split:
    """The files of the run, and the number of samples in each by name."""

    files: DataFiles
    samples: dict[str, object]


@with_session
@with_training_options(without=_OWN_OPTIONS)
def train(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    file: FileArgument,
    options: dict[str, object],
    workers: Annotated[int | None, typer.Option(min=1, max=100, help="The number of workers. Default: 4.")] = None,
    skew: Skew = None,
    site_column: SiteColumn = None,
    test: TestShare = 0.2,
    skip_bad_rows: SkipBadRows = False,
    text_field: TextField = None,
    label_field: LabelField = None,
    model: Annotated[str, typer.Option(help="The base model: base, large, minilm, or a Hugging Face id.")] = "base",
    architecture: Annotated[str | None, typer.Option(help="One of: transformer, transformer-xl, gpt, rnn, cnn.")] = None,
    topology: Annotated[str | None, typer.Option(help="One of: mesh, ring, star, hierarchical.")] = None,
    consensus: Annotated[str | None, typer.Option(help="One of: none, proof-of-learning, byzantine, gossip, raft.")] = None,
    name: Annotated[str | None, typer.Option(help="The name of the cluster and the model. Default: that of the file.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the model. Default: NAME_model.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder of the model.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running.")] = False,
    home: Annotated[Path, typer.Option(help="The state of the service that is started where none runs.")] = service.HOME,
) -> None:
    """Split a file of labelled texts over workers, train, test, export the model and terminate.

    It uses the service that runs. Where none runs, it starts one for this run.
    Ctrl-C and failures terminate what was started. --format json prints one JSON document.
    """
    started = time.monotonic()
    report = usable(file, text_field, label_field, skip_bad_rows=skip_bad_rows)
    split_options = _split_options(workers, skew, site_column, test, options.get("seed"))  # untyped: flags by name
    _check_labels(file, report)
    chosen_name = name or _name_of(file)
    if not _NAME.fullmatch(chosen_name):
        raise UsageError("--name takes up to 100 letters, digits, dots, dashes and underscores")
    folder = out or Path(f"{chosen_name}_model")
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists; --overwrite replaces it, or choose another with --out")
    cluster = given(architecture=architecture, topology=topology or "mesh", consensus=consensus)
    screen = Screen(quiet=session.output_format == "json")
    with tempfile.TemporaryDirectory() as data, service.termination_as_interrupt():
        parts = _written(file, Path(data), report, split_options)
        plan = Plan(chosen_name, parts.files, folder, model, cluster, options, keep, overwrite)
        starts = not service.is_running(session)
        if starts and keep:
            raise UsageError("--keep needs a running service: start `flow-nexus up` in another terminal first")
        screen.note(_what_is_trained(file, report, parts))
        with service.embedded(screen, home) if starts else nullcontext(session.client) as client:
            outcome = Walkthrough(screen, client, plan).run()
    seconds = time.monotonic() - started
    if session.output_format == "json":
        printing.write_json(summary.document(outcome, seconds, parts.samples, started_service=starts))
    else:
        screen.show(summary.picture(outcome, seconds, _next_steps(outcome, keep=keep)))


def _split_options(workers: int | None, skew: float | None, site_column: str | None, test: float, seed: object) -> SplitOptions:
    if site_column is not None and workers is not None:
        raise UsageError("--site-column makes one worker for each value; leave --workers out")
    shards = None if site_column is not None else workers or _DEFAULT_WORKERS
    return SplitOptions(shards, skew, site_column, test, seed if isinstance(seed, int) else 0, _FEWEST_SAMPLES)


def _check_labels(file: Path, report: Report) -> None:
    if len(report.labels) < 2:
        raise UsageError(f"{file}: all samples have one label, so there is nothing to learn")


def _name_of(file: Path) -> str:
    """Return a name that the service accepts: letters, digits, dots, dashes and underscores."""
    stem = file.name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:80] or "texts"


def _written(file: Path, folder: Path, report: Report, options: SplitOptions) -> _Split:
    try:
        shards, test = split(report.samples, options)
    except UsageError as error:
        raise UsageError(f"{file}: {error.message}") from None
    files = writer.files_of(folder, shards, test)
    writer.write(files)
    paths = tuple(path for path in files if path.name != "test.json")
    counts: dict[str, object] = {"workers": [len(shard) for shard in shards], "test": len(test), "skipped": report.bad_rows}
    return _Split(DataFiles(paths, folder / "test.json" if test else None), counts)


def _what_is_trained(file: Path, report: Report, parts: _Split) -> str:
    labels = ", ".join(f"{name} {count:,}" for name, count in list(report.labels.items())[:10])
    more = f" and {len(report.labels) - 10} more labels" if len(report.labels) > 10 else ""
    skipped = f"; skipped rows: {report.bad_rows:,}" if report.bad_rows else ""
    return printing.plain(
        f"{file}: {len(report.samples):,} samples; workers: {len(parts.files.shards)}; {labels}{more}{skipped}"
    )


def _next_steps(outcome: Outcome, *, keep: bool) -> list[summary.NextStep]:
    if keep:
        return [
            (f'flow-nexus neural predict distributed {outcome.cluster_id} --text "…"', "classify a text"),
            (f"flow-nexus neural cluster terminate {outcome.cluster_id}", "end the sandboxes"),
        ]
    return [("flow-nexus up", "keep the service running, to use `train --keep` and predict on new texts")]
