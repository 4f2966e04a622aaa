"""Every Celery task. A message names a row; the step reads the row and decides what to do."""

from workers import steps
from workers.app import app
from workers.context import current_context


@app.task(name="flow_nexus.nodes.advance")
def nodes_advance(node_id: str) -> None:
    steps.nodes.advance(current_context(), node_id)


@app.task(name="flow_nexus.nodes.terminate")
def nodes_terminate(node_id: str) -> None:
    steps.nodes.terminate(current_context(), node_id)


@app.task(name="flow_nexus.clusters.advance")
def clusters_advance(cluster_id: str) -> None:
    steps.clusters.advance(current_context(), cluster_id)


@app.task(name="flow_nexus.trainings.advance")
def trainings_advance(training_id: str) -> None:
    steps.trainings.advance(current_context(), training_id)


@app.task(name="flow_nexus.trainings.interrupt")
def trainings_interrupt(training_id: str) -> None:
    steps.trainings.interrupt(current_context(), training_id)


@app.task(name="flow_nexus.searches.advance")
def searches_advance(search_id: str) -> None:
    steps.searches.advance(current_context(), search_id)


@app.task(name="flow_nexus.predictions.advance")
def predictions_advance(prediction_id: str) -> None:
    steps.predictions.advance(current_context(), prediction_id)


@app.task(name="flow_nexus.models.advance")
def models_advance(model_id: str) -> None:
    steps.models.advance(current_context(), model_id)


@app.task(name="flow_nexus.sweep")
def sweep() -> None:
    steps.sweep.ring_due(current_context())


@app.task(name="flow_nexus.limits")
def limits() -> None:
    steps.limits.enforce(current_context())


@app.task(name="flow_nexus.retention")
def retention() -> None:
    steps.retention.apply(current_context())


@app.task(name="flow_nexus.reconcile")
def reconcile() -> None:
    steps.sweep.reconcile(current_context())
