"""`flow-nexus neural`: clusters, nodes, trainings, searches, predictions and models."""

from api.cli.commands import clusters, models, nodes, predictions, searches, trainings
from api.cli.session import group

app = group("Clusters, nodes, trainings, searches, predictions, models.")
app.add_typer(clusters.app, name="cluster")
app.add_typer(nodes.app, name="node")
app.add_typer(trainings.app, name="train")
app.add_typer(searches.app, name="search")
app.add_typer(predictions.app, name="predict")
app.command("export")(models.export)
app.add_typer(models.app, name="models")
