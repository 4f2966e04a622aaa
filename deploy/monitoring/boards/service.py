"""The board of the service: its parts, its requests, its steps, its rows and its processes."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.monitoring.boards.parts import board, lines, number, quantile, rate, share

_DURATION = "flow_nexus_http_request_duration_seconds"
_STEP = "flow_nexus_step_duration_seconds"
_JOBS = '{job=~"flow-nexus-.*"}'


def service() -> Dashboard:
    made = board("flow-nexus-service", "Flow Nexus: service", "Whether the service does its work.")
    for add in (_parts, _requests, _steps, _rows, _processes):
        made = add(made)
    return made


def _parts(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Parts"))
        .with_panel(
            number(
                "Parts that work",
                "1: the part works, as /readyz says it.",
                "none",
                ("max by (part) (flow_nexus_part_up)", "{{part}}"),
                bad_below=1,
            )
        )
        .with_panel(
            number(
                "Targets that answer",
                "1: Prometheus could read the metrics.",
                "none",
                (f"up{_JOBS}", "{{job}} {{instance}}"),
                bad_below=1,
            )
        )
        .with_panel(
            share(
                "Free disk",
                "The free share of the disk where a folder lies.",
                ("min by (folder) (flow_nexus_disk_free_bytes / flow_nexus_disk_size_bytes)", "{{folder}}"),
            )
        )
    )


def _requests(made: Dashboard) -> Dashboard:
    errors = 'sum(rate(flow_nexus_http_requests_total{status=~"5.."}[$__rate_interval])) or vector(0)'
    return (
        made.with_row(Row("Requests"))
        .with_panel(
            lines(
                "Requests",
                "Requests in a second, by class of the status.",
                "reqps",
                (rate(f"{_DURATION}_count", "status_class"), "{{status_class}}"),
            )
        )
        .with_panel(
            share(
                "Errors of the service",
                "The share of requests with a status of 500 or more.",
                (f"({errors}) / sum(rate(flow_nexus_http_requests_total[$__rate_interval]))", "5xx"),
            )
        )
        .with_panel(
            lines(
                "Duration",
                "Seconds until the response began. `Prefer: wait` holds some answers on purpose.",
                "s",
                (quantile(0.5, _DURATION), "median"),
                (quantile(0.95, _DURATION), "95 %"),
                (quantile(0.99, _DURATION), "99 %"),
            )
        )
        .with_panel(
            lines(
                "Slowest operations",
                "The ten operations whose 95 % quantile is largest.",
                "s",
                (f"topk(10, {quantile(0.95, _DURATION, 'operation')})", "{{operation}}"),
            )
        )
        .with_panel(
            lines(
                "Waiting",
                "Use cases that wait for a thread, and answers that are held until something happens.",
                "none",
                ("sum(flow_nexus_waiting_use_cases)", "use cases"),
                ("sum(flow_nexus_held_requests)", "held answers and streams"),
            )
        )
        .with_panel(
            lines(
                "Lag of the event loop",
                "How late the event loop continues a task.",
                "s",
                (quantile(0.99, "flow_nexus_event_loop_lag_seconds"), "99 %"),
            )
        )
    )


def _steps(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Steps"))
        .with_panel(
            lines("Steps", "Steps in a second, by kind.", "ops", (rate(f"{_STEP}_count", "step"), "{{step}}")),
        )
        .with_panel(
            lines(
                "Slowest steps",
                "The ten kinds of steps whose 95 % quantile is largest.",
                "s",
                (f"topk(10, {quantile(0.95, _STEP, 'step')} >= 0)", "{{step}}"),
            )
        )
        .with_panel(
            lines(
                "Late work",
                "Seconds that the oldest due row has waited for its step.",
                "s",
                ("max by (noun) (flow_nexus_due_seconds)", "{{noun}}"),
            )
        )
        .with_panel(
            lines(
                "Retries",
                "Steps in a second that gave their row back, by cause.",
                "ops",
                (rate("flow_nexus_step_retries_total", "cause"), "{{cause}}"),
            )
        )
        .with_panel(
            lines(
                "What went wrong",
                "In a second: leases of dead workers, rows given up, and steps that raised an error.",
                "ops",
                ("sum(rate(flow_nexus_leases_taken_over_total[$__rate_interval]))", "leases taken over"),
                ("sum(rate(flow_nexus_rows_given_up_total[$__rate_interval]))", "rows given up"),
                ("sum(rate(flow_nexus_step_errors_total[$__rate_interval]))", "errors"),
            )
        )
        .with_panel(
            lines(
                "What the sweep found",
                "In a second: due rows without a lease, and sandboxes that differ from the rows.",
                "ops",
                (rate("flow_nexus_sweep_due_rows_total", "noun"), "due {{noun}}"),
                (rate("flow_nexus_sweep_sandboxes_total", "found"), "{{found}} sandboxes"),
            )
        )
    )


def _rows(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Rows"))
    for noun in ("clusters", "nodes", "trainings", "searches", "predictions", "executions"):
        query = (f"max by (status) (flow_nexus_{noun})", "{{status}}")
        made = made.with_panel(lines(noun.capitalize(), f"The number of {noun}, by status.", "none", query))
    return made


def _processes(made: Dashboard) -> Dashboard:
    note = "Several API processes behind one port have no figures of their own."
    return (
        made.with_row(Row("Processes"))
        .with_panel(
            lines("Memory", note, "bytes", (f"process_resident_memory_bytes{_JOBS}", "{{job}} {{instance}}"), width=12),
        )
        .with_panel(
            lines(
                "Processor",
                f"Cores in use. {note}",
                "none",
                (f"rate(process_cpu_seconds_total{_JOBS}[$__rate_interval])", "{{job}} {{instance}}"),
                width=12,
            )
        )
    )
