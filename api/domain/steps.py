"""The names of the background tasks."""

from enum import StrEnum

QUEUE = "flow_nexus"


class Step(StrEnum):
    """A task that advances one row. Its only argument is the id of the row."""

    TRAININGS_ADVANCE = "trainings.advance"
    TRAININGS_INTERRUPT = "trainings.interrupt"
    SEARCHES_ADVANCE = "searches.advance"
    PREDICTIONS_ADVANCE = "predictions.advance"
    PREDICTIONS_INTERRUPT = "predictions.interrupt"
    MODELS_ADVANCE = "models.advance"
    EXECUTIONS_ADVANCE = "executions.advance"
    NODES_ADVANCE = "nodes.advance"
    NODES_TERMINATE = "nodes.terminate"
    CLUSTERS_ADVANCE = "clusters.advance"
    WEBHOOKS_ADVANCE = "webhooks.advance"
    MLFLOW_RUNS_ADVANCE = "mlflow_runs.advance"


class PeriodicStep(StrEnum):
    """A task that Celery's beat starts at an interval, without arguments."""

    SWEEP = "sweep"
    LIMITS = "limits"
    RETENTION = "retention"
    RECONCILE = "reconcile"


def task_name(step: Step | PeriodicStep) -> str:
    """Return the name under which Celery knows the task."""
    return f"{QUEUE}.{step}"
