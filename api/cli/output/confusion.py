"""The confusion matrix of a prediction: rows are true classes, columns predicted ones."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.cli.output.printing import cell, plain, table
from api.cli.responses import ConfusionJson

_WIDEST = 12
_MOST_MISTAKES = 10


def confusion(matrix: ConfusionJson) -> RenderableType:
    """Return the matrix, or only the most frequent mistakes when it is too wide for a terminal."""
    if len(matrix.labels) > _WIDEST:
        return Group(Text("the most frequent mistakes", style="dim"), _mistakes(matrix))
    return Group(Text("rows: true, columns: predicted", style="dim"), _whole(matrix))


def _whole(matrix: ConfusionJson) -> Table:
    names = [plain(label) for label in matrix.labels]
    rows = [
        (
            cell(true),
            *(cell(f"{count:,}", "green" if true == answer else "") for answer, count in zip(names, counts, strict=True)),
        )
        for true, counts in zip(names, matrix.counts, strict=True)
    ]
    return table(("", *names), rows, right=names)


def _mistakes(matrix: ConfusionJson) -> Table:
    mistakes = [
        (count, true, answer)
        for true, counts in zip(matrix.labels, matrix.counts, strict=True)
        for answer, count in zip(matrix.labels, counts, strict=True)
        if count and true != answer
    ]
    most = sorted(mistakes, key=lambda mistake: -mistake[0])[:_MOST_MISTAKES]
    return table(
        ("true", "predicted", "texts"),
        ((cell(true), cell(answer), cell(f"{count:,}")) for count, true, answer in most),
        right=("texts",),
    )
