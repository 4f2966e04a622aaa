"""Every task there is. Each says "look at this row"; the steps decide what it wants."""

from workers import steps
from workers.app import app
from workers.context import current


@app.task(name="flow_nexus.nodes.advance")
def nodes_advance(node_id: str) -> None:
    steps.nodes.advance(current(), node_id)


@app.task(name="flow_nexus.nodes.terminate")
def nodes_terminate(node_id: str) -> None:
    steps.nodes.terminate(current(), node_id)


@app.task(name="flow_nexus.clusters.advance")
def clusters_advance(cluster_id: str) -> None:
    steps.clusters.advance(current(), cluster_id)


@app.task(name="flow_nexus.trainings.advance")
def trainings_advance(training_id: str) -> None:
    steps.trainings.advance(current(), training_id)


@app.task(name="flow_nexus.trainings.interrupt")
def trainings_interrupt(training_id: str) -> None:
    steps.trainings.interrupt(current(), training_id)


@app.task(name="flow_nexus.searches.advance")
def searches_advance(search_id: str) -> None:
    steps.searches.advance(current(), search_id)


@app.task(name="flow_nexus.predictions.advance")
def predictions_advance(prediction_id: str) -> None:
    steps.predictions.advance(current(), prediction_id)


@app.task(name="flow_nexus.models.advance")
def models_advance(model_id: str) -> None:
    steps.models.advance(current(), model_id)


@app.task(name="flow_nexus.sweep")
def sweep() -> None:
    steps.sweep.ring_due(current())


@app.task(name="flow_nexus.limits")
def limits() -> None:
    steps.limits.enforce(current())


@app.task(name="flow_nexus.retention")
def retention() -> None:
    steps.retention.apply(current())


@app.task(name="flow_nexus.reconcile")
def reconcile() -> None:
    steps.sweep.reconcile(current())
