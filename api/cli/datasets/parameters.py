"""Parameters of the commands that read a file of labelled texts."""

from pathlib import Path
from typing import Annotated

import typer

FileArgument = Annotated[
    Path, typer.Argument(help="JSON, JSON Lines, CSV, TSV or Parquet, also as gzip or zstd.", metavar="FILE")
]
TextField = Annotated[str | None, typer.Option(help="The field with the text. Default: text.", metavar="NAME")]
LabelField = Annotated[
    str | None,
    typer.Option(help="The field with the label. Default: sentiment, label, labels or category.", metavar="NAME"),
]
Skew = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=1000,
        help="Draw the shares of each label from a Dirichlet distribution (Hsu et al., 2019): 0.3 is uneven, 100 is even.",
    ),
]
SiteColumn = Annotated[str | None, typer.Option(help="One file for each value of this column.", metavar="COLUMN")]
TestShare = Annotated[float, typer.Option("--test", min=0, max=0.9, help="The share of each label that goes to a test file.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that have problems.")]
