"""Parameters that several commands share."""

from typing import Annotated, Any, Literal

import typer

from api.cli.ids import id_option

Flag = Literal["true", "false"]
ClusterId = Annotated[str, id_option("--cluster-id", "cluster", "cls_9x7k3m2p")]
TrainingId = Annotated[str, id_option("--training-id", "training", "train_fed_gh789")]
Limit = Annotated[int | None, typer.Option(min=1, help="The maximum number of items. Default: all.")]


def wait_option(help: str = "Seconds to wait for the result; 0 returns at once.") -> Any:  # noqa: A002
    return typer.Option("--wait", min=0, max=3600, help=help, metavar="SECONDS")


Wait = Annotated[int, wait_option()]
