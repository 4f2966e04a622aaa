"""What one Celery worker counts. `workers/metrics_server.py` serves it.

With a pool of processes, prometheus_client's own variable `PROMETHEUS_MULTIPROC_DIR` names a folder
in which they keep their counts. Labels have a bounded number of values, and never an id.
"""

from typing import Literal, get_args

from prometheus_client import Counter, Histogram

from api.domain.sandboxes import ResourceLimit
from api.domain.steps import PeriodicStep, Step
from api.domain.words import words_of
from api.runtime.metrics.registries import Registries
from api.store.kinds import KINDS

AbsentPart = Literal["database", "sandboxes", "agent"]
"""A part that is away, so that a step must be tried again. The other cause is `failure`."""
REGISTRIES = Registries.make()
_OWN = REGISTRIES.own
_STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_START_BUCKETS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
_ROUND_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

STEP_SECONDS = Histogram(
    "flow_nexus_step_duration_seconds",
    "Seconds of a step, also of one that found nothing to do",
    ["step"],
    registry=_OWN,
    buckets=_STEP_BUCKETS,
)
STEP_ERRORS = Counter("flow_nexus_step_errors", "Steps that ended with an error that no lease caught", ["step"], registry=_OWN)
RETRIES = Counter(
    "flow_nexus_step_retries",
    "Steps that gave their row back to try it again, by noun and cause",
    ["noun", "cause"],
    registry=_OWN,
)
GIVEN_UP = Counter("flow_nexus_rows_given_up", "Rows that failed because their step failed too often", ["noun"], registry=_OWN)
TAKEN_OVER = Counter(
    "flow_nexus_leases_taken_over", "Rows whose lease had expired while a worker held it", ["noun"], registry=_OWN
)
SWEPT_ROWS = Counter(
    "flow_nexus_sweep_due_rows", "Due rows without a lease for which the sweep sent a message", ["noun"], registry=_OWN
)
SWEPT_SANDBOXES = Counter(
    "flow_nexus_sweep_sandboxes",
    "Sandboxes that the sweep found orphaned, missing, or about to expire",
    ["found"],
    registry=_OWN,
)
NODES_LOST = Counter("flow_nexus_nodes_lost", "Running nodes that stopped answering", registry=_OWN)
SANDBOX_START_SECONDS = Histogram(
    "flow_nexus_sandbox_start_seconds",
    "Seconds from the request of a node until its agent ran in its sandbox",
    registry=_OWN,
    buckets=_START_BUCKETS,
)
SANDBOX_LIMITS = Counter(
    "flow_nexus_sandbox_limits", "Limits that ended code or an agent in a sandbox", ["limit"], registry=_OWN
)
ROUND_SECONDS = Histogram(
    "flow_nexus_round_duration_seconds", "Wall-clock seconds of a completed round", registry=_OWN, buckets=_ROUND_BUCKETS
)
ROUND_PHASE_SECONDS = Histogram(
    "flow_nexus_round_phase_duration_seconds",
    "Seconds of a phase of a completed round",
    ["phase"],
    registry=_OWN,
    buckets=_ROUND_BUCKETS,
)
ROUND_BYTES = Counter(
    "flow_nexus_round_transferred_bytes", "Bytes between the agents of completed rounds", ["direction"], registry=_OWN
)
ROUND_UPDATES = Counter(
    "flow_nexus_round_updates", "Updates of completed rounds, by what became of them", ["outcome"], registry=_OWN
)

# A counter that is absent until its first count hides that count from `rate` and `increase`.
for _step in (*Step, *PeriodicStep):
    STEP_SECONDS.labels(_step)
    STEP_ERRORS.labels(_step)
for _kind in KINDS:
    GIVEN_UP.labels(_kind.noun)
    TAKEN_OVER.labels(_kind.noun)
    SWEPT_ROWS.labels(_kind.noun)
    for _cause in (*get_args(AbsentPart), "failure"):
        RETRIES.labels(_kind.noun, _cause)
for _found in ("orphaned", "missing", "expiring"):
    SWEPT_SANDBOXES.labels(_found)
for _limit in words_of(ResourceLimit):
    SANDBOX_LIMITS.labels(_limit)
for _phase in ("training", "transfer_and_waiting", "consensus", "aggregation", "evaluation"):
    ROUND_PHASE_SECONDS.labels(_phase)
for _direction in ("to_aggregator", "from_aggregator", "between_workers"):
    ROUND_BYTES.labels(_direction)
for _outcome in ("accepted", "rejected", "late"):
    ROUND_UPDATES.labels(_outcome)
