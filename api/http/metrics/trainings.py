"""Metrics of each active training. They are gone when it ends, and absent while not measured."""

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from api.services.monitoring import ActiveTraining

_LABELS: Final = ("cluster_id", "training_id")
_GAUGES: Final[Sequence[tuple[str, str, Callable[[ActiveTraining], float | None]]]] = (
    ("flow_nexus_training_job_epoch", "Epochs that the completed rounds have trained", lambda one: one.epoch),
    ("flow_nexus_training_job_epochs", "Epochs that the training is to have", lambda one: one.total_epochs),
    ("flow_nexus_training_job_loss", "Global loss of the last completed round", lambda one: one.loss),
    ("flow_nexus_training_job_accuracy", "Global accuracy of the last completed round", lambda one: one.accuracy),
    (
        "flow_nexus_training_job_validation_accuracy",
        "Validation accuracy of the last completed round",
        lambda one: one.validation_accuracy,
    ),
    ("flow_nexus_training_job_cost_dollars", "Cost of the training's sandboxes in USD", lambda one: one.cost_usd),
    (
        "flow_nexus_training_job_remaining_seconds",
        "Rounds left times the mean seconds of the last five rounds",
        lambda one: one.remaining_seconds,
    ),
    ("flow_nexus_training_job_round_seconds", "Mean seconds of the last five rounds", lambda one: one.round_seconds),
    (
        "flow_nexus_training_job_progress_timestamp_seconds",
        "Unix time at which the open round began, or the last one ended",
        lambda one: one.progress_at,
    ),
    ("flow_nexus_cluster_workers_total", "Workers of the training", lambda one: one.workers),
    ("flow_nexus_cluster_workers_healthy", "Workers whose node is running", lambda one: one.healthy_workers),
    (
        "flow_nexus_cluster_workers_unhealthy",
        "Workers whose node is not running",
        lambda one: one.workers - one.healthy_workers,
    ),
    ("flow_nexus_cluster_cost_dollars", "Cost of all sandboxes of the cluster in USD", lambda one: one.cluster_cost_usd),
    (
        "flow_nexus_cluster_cost_per_hour",
        "USD that the running sandboxes of the cluster cost in an hour",
        lambda one: one.cluster_usd_per_hour,
    ),
    ("flow_nexus_cluster_budget_dollars", "Budget of the cluster in USD, if it has one", lambda one: one.budget_usd),
)


def families(active: Sequence[ActiveTraining]) -> list[GaugeMetricFamily]:
    made = []
    for name, text, value_of in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        for one in active:
            value = value_of(one)
            if value is not None:
                family.add_metric([one.cluster_id, one.training_id], value)
        made.append(family)
    states = GaugeMetricFamily(
        "flow_nexus_training_job_workers", "Workers by their state in the newest round", labels=(*_LABELS, "state")
    )
    for one in active:
        for state, count in one.worker_states.items():
            states.add_metric([one.cluster_id, one.training_id, state], count)
    return [*made, states]
