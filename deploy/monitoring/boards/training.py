"""The board of one training. A variable chooses it; ended ones stay in Prometheus's history."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.models.dashboard import VariableRefresh, VariableSort

from deploy.monitoring.boards.parts import SOURCE, board, lines, number, share

_JOB = "flow_nexus_training_job"


def training() -> Dashboard:
    chosen = (
        QueryVariable("training")
        .label("Training")
        .datasource(SOURCE)
        .query(f"label_values({_JOB}_epoch, training_id)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_DESC)
    )
    made = board("flow-nexus-training", "Flow Nexus: one training", "How one training learns, and what it costs.")
    made = made.with_variable(chosen)
    for add in (_learning, _time_and_cost, _workers):
        made = add(made)
    return made


def _of(metric: str) -> str:
    """Return the selector of a metric of the chosen training. Several API targets show the same."""
    return f'max without (instance, job) ({metric}{{training_id="$training"}})'


def _learning(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Learning"))
        .with_panel(
            lines(
                "Epochs",
                "Epochs that the completed rounds have trained, and all that are asked for.",
                "none",
                (_of(f"{_JOB}_epoch"), "trained"),
                (_of(f"{_JOB}_epochs"), "asked for"),
            )
        )
        .with_panel(
            lines("Loss", "Global loss of the last completed round.", "none", (_of(f"{_JOB}_loss"), "loss")),
        )
        .with_panel(
            share(
                "Accuracy",
                "Of the last completed round. Without validation data there is no validation accuracy.",
                (_of(f"{_JOB}_accuracy"), "training"),
                (_of(f"{_JOB}_validation_accuracy"), "validation"),
            )
        )
    )


def _time_and_cost(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Time and cost"))
        .with_panel(
            number(
                "Remaining",
                "Rounds left times the mean of the last five rounds.",
                "s",
                (_of(f"{_JOB}_remaining_seconds"), "remaining"),
            )
        )
        .with_panel(
            lines(
                "Rounds",
                "The mean of the last five rounds, and the time since the open one began.",
                "s",
                (_of(f"{_JOB}_round_seconds"), "mean of a round"),
                (f"time() - {_of(f'{_JOB}_progress_timestamp_seconds')}", "open round"),
            )
        )
        .with_panel(
            lines(
                "Cost",
                "Of the training's sandboxes, and of all sandboxes of its cluster.",
                "currencyUSD",
                (_of(f"{_JOB}_cost_dollars"), "training"),
                (_of("flow_nexus_cluster_cost_dollars"), "cluster"),
            )
        )
    )


def _workers(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Workers"))
        .with_panel(
            lines(
                "State in the newest round",
                "Workers by what they do in the newest round, or why they are not in its model.",
                "none",
                (_of(f"{_JOB}_workers"), "{{state}}"),
                width=12,
            )
        )
        .with_panel(
            lines(
                "Health",
                "Workers whose node is running, and the others.",
                "none",
                (_of("flow_nexus_cluster_workers_healthy"), "healthy"),
                (_of("flow_nexus_cluster_workers_unhealthy"), "not healthy"),
                width=12,
            )
        )
    )
