"""Every Celery task. A message names a row; the step reads the row and decides what to do."""

from api.domain.steps import PeriodicStep, Step, task_name
from workers import steps
from workers.app import app
from workers.context import current_context


@app.task(name=task_name(Step.NODES_ADVANCE))
def nodes_advance(node_id: str) -> None:
    steps.nodes.advance(current_context(), node_id)


@app.task(name=task_name(Step.NODES_TERMINATE))
def nodes_terminate(node_id: str) -> None:
    steps.nodes.terminate(current_context(), node_id)


@app.task(name=task_name(Step.CLUSTERS_ADVANCE))
def clusters_advance(cluster_id: str) -> None:
    steps.clusters.advance(current_context(), cluster_id)


@app.task(name=task_name(Step.TRAININGS_ADVANCE))
def trainings_advance(training_id: str) -> None:
    steps.trainings.advance(current_context(), training_id)


@app.task(name=task_name(Step.TRAININGS_INTERRUPT))
def trainings_interrupt(training_id: str) -> None:
    steps.trainings.interrupt(current_context(), training_id)


@app.task(name=task_name(Step.SEARCHES_ADVANCE))
def searches_advance(search_id: str) -> None:
    steps.searches.advance(current_context(), search_id)


@app.task(name=task_name(Step.PREDICTIONS_ADVANCE))
def predictions_advance(prediction_id: str) -> None:
    steps.predictions.advance(current_context(), prediction_id)


@app.task(name=task_name(Step.PREDICTIONS_INTERRUPT))
def predictions_interrupt(prediction_id: str) -> None:
    steps.predictions.interrupt(current_context(), prediction_id)


@app.task(name=task_name(Step.EXECUTIONS_ADVANCE))
def executions_advance(execution_id: str) -> None:
    steps.executions.advance(current_context(), execution_id)


@app.task(name=task_name(Step.MODELS_ADVANCE))
def models_advance(model_id: str) -> None:
    steps.models.advance(current_context(), model_id)


@app.task(name=task_name(Step.WEBHOOKS_ADVANCE))
def webhooks_advance(webhook_id: str) -> None:
    steps.webhooks.advance(current_context(), webhook_id)


@app.task(name=task_name(Step.MLFLOW_RUNS_ADVANCE))
def mlflow_runs_advance(training_id: str) -> None:
    steps.mlflow_runs.advance(current_context(), training_id)


@app.task(name=task_name(PeriodicStep.SWEEP))
def sweep() -> None:
    steps.sweep.enqueue_due(current_context())


@app.task(name=task_name(PeriodicStep.LIMITS))
def limits() -> None:
    steps.limits.enforce(current_context())


@app.task(name=task_name(PeriodicStep.RETENTION))
def retention() -> None:
    steps.retention.apply(current_context())


@app.task(name=task_name(PeriodicStep.RECONCILE))
def reconcile() -> None:
    steps.sweep.reconcile(current_context())
