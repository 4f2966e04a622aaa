"""`flow-nexus neural`: clusters, nodes, trainings, searches, predictions and models."""

import typer

from api.cli.lazy import LazyCommand, lazy_group
from api.cli.session import common_options

_FOLDER = "api.cli.commands"
app = typer.Typer(
    # Loaded when they run: the options of `train` take longer to import than a simple command.
    cls=lazy_group(
        LazyCommand("cluster", f"{_FOLDER}.clusters", "app", "Clusters: create, connect, show, terminate."),
        LazyCommand("node", f"{_FOLDER}.nodes", "app", "Nodes: deploy, list, redeploy, remove."),
        LazyCommand("train", f"{_FOLDER}.trainings", "app", "Trainings: start, follow, stop, resume."),
        LazyCommand("search", f"{_FOLDER}.searches", "app", "Search over a training's options, and name the best."),
        LazyCommand("predict", f"{_FOLDER}.predictions", "app", "Predictions with the trained model of a cluster."),
        LazyCommand("export", f"{_FOLDER}.models", "export", "Export a trained model."),
        LazyCommand("models", f"{_FOLDER}.models", "app", "Exported models: list, download."),
    ),
    callback=common_options,
    help="Clusters, nodes, trainings, searches, predictions, models.",
    no_args_is_help=True,
    add_completion=False,
)
