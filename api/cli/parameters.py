"""Parameters that several commands share."""

from typing import Annotated, Any, Literal

import typer

Flag = Literal["true", "false"]
ClusterId = Annotated[str, typer.Option("--cluster-id", help="The cluster: cls_…", metavar="ID")]
TrainingId = Annotated[str, typer.Option("--training-id", help="The training: train_…", metavar="ID")]
Limit = Annotated[int | None, typer.Option(min=1, help="The maximum number of items. Default: all.")]


def wait_option(help: str = "Seconds to wait for the result; 0 returns at once.") -> Any:  # noqa: A002
    return typer.Option("--wait", min=0, max=3600, help=help, metavar="SECONDS")


Wait = Annotated[int, wait_option()]
