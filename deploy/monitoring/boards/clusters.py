"""The board of the clusters: what trains, what it costs, their nodes, and their rounds."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.monitoring.boards.parts import board, lines, number, quantile, rate, share

_PHASE = "flow_nexus_round_phase_duration_seconds"
_ROUND = "flow_nexus_round_duration_seconds"
_START = "flow_nexus_sandbox_start_seconds"


def clusters() -> Dashboard:
    made = board("flow-nexus-clusters", "Flow Nexus: clusters", "Clusters that train, their sandboxes and their rounds.")
    for add in (_training, _money, _nodes, _rounds):
        made = add(made)
    return made


def _training(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Clusters that train"))
        .with_panel(
            number(
                "Active trainings",
                "Trainings that have not ended.",
                "none",
                ('sum(max by (status) (flow_nexus_trainings{status=~"pending|training|stopping"}))', "active"),
            )
        )
        .with_panel(
            lines(
                "Workers",
                "Workers of each cluster that trains, and those whose node is running.",
                "none",
                ("max by (cluster_id) (flow_nexus_cluster_workers_total)", "{{cluster_id}} all"),
                ("max by (cluster_id) (flow_nexus_cluster_workers_healthy)", "{{cluster_id}} healthy"),
            )
        )
        .with_panel(
            lines(
                "Workers that are not healthy",
                "Workers whose node is not running.",
                "none",
                ("max by (cluster_id) (flow_nexus_cluster_workers_unhealthy)", "{{cluster_id}}"),
            )
        )
    )


def _money(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Cost"))
        .with_panel(
            lines(
                "Cost of an hour",
                "What the running sandboxes of each cluster that trains cost in an hour.",
                "currencyUSD",
                ("max by (cluster_id) (flow_nexus_cluster_cost_per_hour)", "{{cluster_id}}"),
            )
        )
        .with_panel(
            lines(
                "Cost so far",
                "What all sandboxes of each cluster that trains have cost.",
                "currencyUSD",
                ("max by (cluster_id) (flow_nexus_cluster_cost_dollars)", "{{cluster_id}}"),
            )
        )
        .with_panel(
            share(
                "Budget that is spent",
                "Clusters without a budget are not shown.",
                (
                    "max by (cluster_id) (flow_nexus_cluster_cost_dollars / flow_nexus_cluster_budget_dollars)",
                    "{{cluster_id}}",
                ),
            )
        )
    )


def _nodes(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Nodes and sandboxes"))
        .with_panel(
            lines(
                "Nodes",
                "Nodes that have not ended, by status.",
                "none",
                ('max by (status) (flow_nexus_nodes{status!="terminated"})', "{{status}}"),
            )
        )
        .with_panel(
            lines(
                "Start of a sandbox",
                "Seconds from the request of a node until its agent ran.",
                "s",
                (quantile(0.5, _START), "median"),
                (quantile(0.95, _START), "95 %"),
            )
        )
        .with_panel(
            lines(
                "Trouble",
                "In a second: nodes that stopped answering, and limits that ended code or an agent.",
                "ops",
                ("sum(rate(flow_nexus_nodes_lost_total[$__rate_interval]))", "nodes lost"),
                (rate("flow_nexus_sandbox_limits_total", "limit"), "limit: {{limit}}"),
            )
        )
    )


def _rounds(made: Dashboard) -> Dashboard:
    mean = f"{rate(f'{_PHASE}_sum', 'phase')} / {rate(f'{_PHASE}_count', 'phase')}"
    return (
        made.with_row(Row("Rounds of all trainings"))
        .with_panel(
            lines(
                "Rounds",
                "Completed rounds in a second.",
                "ops",
                (f"sum(rate({_ROUND}_count[$__rate_interval]))", "rounds"),
            )
        )
        .with_panel(
            lines(
                "Duration of a round",
                "Wall-clock seconds.",
                "s",
                (quantile(0.5, _ROUND), "median"),
                (quantile(0.95, _ROUND), "95 %"),
            )
        )
        .with_panel(lines("Phases of a round", "Mean seconds of each phase.", "s", (mean, "{{phase}}")))
        .with_panel(
            lines(
                "Bytes between agents",
                "Bytes in a second, by direction.",
                "Bps",
                (rate("flow_nexus_round_transferred_bytes_total", "direction"), "{{direction}}"),
                width=12,
            )
        )
        .with_panel(
            lines(
                "Updates",
                "Updates in a second, by what became of them.",
                "ops",
                (rate("flow_nexus_round_updates_total", "outcome"), "{{outcome}}"),
                width=12,
            )
        )
    )
