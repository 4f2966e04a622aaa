"""The last screen of a walkthrough: how good the model is, what it cost, and where it is."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from api.cli.output.confusion import confusion
from api.cli.output.printing import cell, facts, percent, plain, usd
from api.cli.responses import JsonObject, PredictionResults
from api.cli.walkthrough.plan import Outcome

NextStep = tuple[str, str]
"""A command, and what it does."""


def picture(outcome: Outcome, seconds: float, next_steps: Sequence[NextStep]) -> RenderableType:
    """Return the figures for people. `seconds` is the time of the whole run."""
    session = outcome.session
    pairs = _test_figures(outcome)
    if session.metrics.validation_accuracy is not None:
        pairs.append(("validation accuracy", percent(session.metrics.validation_accuracy)))
    pairs.append(("training", cell(f"{session.epoch} epochs in {session.time_elapsed}; the whole run took {seconds:.0f} s")))
    if session.stop_reason:
        pairs.append(("ended early", cell(session.stop_reason.detail)))
    pairs.append(("cost", Text.assemble(usd(outcome.cost_usd), f", {_usd(session.cost_per_epoch_usd)} per epoch")))
    pairs.append(("model", cell(str(outcome.model_folder), "bold")))
    pairs.append(
        ("cluster", cell(f"{outcome.cluster_id} {outcome.cluster_status}; sandboxes still running: {outcome.running}"))
    )
    parts: list[RenderableType] = [Text(), facts(pairs)]
    if outcome.prediction and outcome.prediction.results and (matrix := outcome.prediction.results.confusion_matrix):
        parts += [Text(), Text("the test texts"), confusion(matrix)]
    steps = [(str(outcome.model_folder / "README.md"), "how to load the model in Python, and all its figures"), *next_steps]
    parts += [Text(), Text("next"), facts((f"  {place}", cell(what, "dim")) for place, what in steps)]
    return Group(*parts)


def _test_figures(outcome: Outcome) -> list[tuple[str, RenderableType]]:
    results = outcome.prediction.results if outcome.prediction else None
    if results is None:
        return [("test accuracy", cell("not measured: there was no test part"))]
    count = f"on {_scored(results):,} texts that no worker had"
    pairs: list[tuple[str, RenderableType]] = [
        ("test accuracy", Text.assemble(Text(percent(results.accuracy).plain, style="bold green"), f" {count}")),
        ("F1, precision, recall", cell(", ".join(percent(score).plain for score in _scores(results)))),
    ]
    pairs += [("notice", cell(notice, "yellow")) for notice in results.notices]
    if results.predictions:
        first = results.predictions[0]
        pairs.append(("for example", cell(f"“{plain(first.text)}” is {first.sentiment} ({first.confidence or 0:.0%})")))
    return pairs


def _scored(results: PredictionResults) -> int:
    matrix = results.confusion_matrix
    return sum(map(sum, matrix.counts)) if matrix else len(results.predictions)


def _scores(results: PredictionResults) -> tuple[float | None, ...]:
    return (results.f1_score, results.precision, results.recall)


def _usd(amount: float | None) -> str:
    return usd(amount).plain


def document(outcome: Outcome, seconds: float, samples: JsonObject, *, started_service: bool) -> JsonObject:
    """Return the same as one JSON document, without the texts."""
    results = outcome.prediction.results if outcome.prediction else None
    session = outcome.session
    return {
        "cluster_id": outcome.cluster_id,
        "cluster_status": outcome.cluster_status,
        "training_id": session.training_id,
        "model_id": outcome.model.model_id,
        "model": str(Path(outcome.model_folder).resolve()),
        "samples": samples,
        "epochs": session.epoch,
        "training_time": session.time_elapsed,
        "seconds": round(seconds, 1),
        "validation_accuracy": session.metrics.validation_accuracy,
        "test": results and _results(results),
        "cost_usd": outcome.cost_usd,
        "cost_per_epoch_usd": session.cost_per_epoch_usd,
        "running_sandboxes": outcome.running,
        "service": "started for this run" if started_service else "was running",
    }


def _results(results: PredictionResults) -> JsonObject:
    matrix = results.confusion_matrix
    return {
        "accuracy": results.accuracy,
        "precision": results.precision,
        "recall": results.recall,
        "f1_score": results.f1_score,
        "confusion_matrix": matrix and {"labels": matrix.labels, "counts": matrix.counts},
        "notices": results.notices,
    }
