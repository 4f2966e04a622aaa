"""The reconciler: plain functions that load a row, act on the network, and apply what came of it.

Each is safe to run twice and holds no database session while it waits for a sandbox.
"""

from workers.steps import (
    clusters,
    executions,
    limits,
    mlflow_runs,
    models,
    nodes,
    predictions,
    retention,
    searches,
    sweep,
    trainings,
    webhooks,
)

__all__ = [
    "clusters",
    "executions",
    "limits",
    "mlflow_runs",
    "models",
    "nodes",
    "predictions",
    "retention",
    "searches",
    "sweep",
    "trainings",
    "webhooks",
]
