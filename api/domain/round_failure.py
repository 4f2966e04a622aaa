"""Why a round has failed: the cause behind too few updates, and what helps."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from api.domain.records import FailureReason
from api.domain.red_flags import ROUND_FAILED, Flag, ObservedWorker
from api.domain.training_spec import TrainingSpec

# Parts of reasons, as agents write them.
_DIVERGED: Final = ("(diverged)", "NaN", "infinity", "not finite", "too far from the global model")
_NOT_FINITE: Final = ("NaN", "infinity", "not finite")
_MEMORY: Final = ("(out_of_memory)", "limit_hits: memory")
_OUT: Final = ("rejected", "failed", "lost", "declined", "late")
# Codes of the aggregator that only say that updates are missing, or that the model is not usable.
_EXPLAINED: Final = frozenset(
    {"quorum_not_met", "below_threshold", "sum_failed", "attempts_exhausted", "diverged", "not_finite", "norm_exceeded"}
)
_DIVERGED_CODES: Final = frozenset({"diverged", "not_finite", "norm_exceeded"})
_SLOWER: Final = 10
_MOST_NODES: Final = 10


def explain(
    spec: TrainingSpec, number: int, problem: FailureReason, workers: Mapping[str, ObservedWorker]
) -> tuple[FailureReason, Flag]:
    """Return the error and the red flag of round `number`, which has failed for good.

    `problem` is the aggregator's. `workers` have the states and reasons of the round.
    """
    out = {node_id: worker for node_id, worker in workers.items() if worker.state in _OUT}
    code = _cause(problem.code, out)
    what = f"Round {number} diverged" if code == "diverged" else f"Round {number} failed"
    listed = _listed(out)
    message = f"{what}: {problem.detail.rstrip('.')}{': ' + listed if listed else ''}."
    suggestion = _suggestion(code, spec, number, problem, out)
    reason = FailureReason(code=code, detail=f"{message} {suggestion}".strip())
    return reason, Flag(ROUND_FAILED, message, suggestion, None, number)


def _cause(code: str, out: Mapping[str, ObservedWorker]) -> str:
    """Return the code of the cause that most of the missing updates have."""
    if code not in _EXPLAINED:
        return code
    if code in _DIVERGED_CODES:
        return "diverged"
    causes = {
        "diverged": _count(out, _DIVERGED),
        "out_of_memory": _count(out, _MEMORY),
        "updates_refused": sum(worker.state == "rejected" for worker in out.values()) - _rejected_as_diverged(out),
        "workers_failed": sum(worker.state == "failed" for worker in out.values()) - _count(out, _MEMORY, "failed"),
    }
    causes["workers_failed"] -= _count(out, _DIVERGED, "failed")
    cause, most = max(causes.items(), key=lambda item: item[1])
    return cause if most and 2 * most >= len(out) else code


def _rejected_as_diverged(out: Mapping[str, ObservedWorker]) -> int:
    return _count(out, _DIVERGED, "rejected")


def _count(out: Mapping[str, ObservedWorker], parts: tuple[str, ...], state: str | None = None) -> int:
    return sum(state in (None, worker.state) and _has(worker, parts) for worker in out.values())


def _has(worker: ObservedWorker, parts: tuple[str, ...]) -> bool:
    return any(part in (worker.reason or "") for part in parts)


def _listed(out: Mapping[str, ObservedWorker]) -> str:
    """Return each reason with the nodes that have it, the most frequent first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for node_id, worker in sorted(out.items()):
        groups[f"{worker.state}, {worker.reason or 'no reason given'}"].append(node_id)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return "; ".join(f"{len(node_ids)} {reason} ({_names(node_ids)})" for reason, node_ids in ordered)


def _names(node_ids: list[str]) -> str:
    more = len(node_ids) - _MOST_NODES
    return ", ".join(node_ids[:_MOST_NODES]) + (f" and {more} more" if more > 0 else "")


def _suggestion(code: str, spec: TrainingSpec, number: int, problem: FailureReason, out: Mapping[str, ObservedWorker]) -> str:
    match code:
        case "diverged":
            return _slower(spec, number, problem, out)
        case "out_of_memory":
            return f"Use a smaller batch_size than {spec.batch_size}, a smaller max_length, or a sandbox with more memory."
        case "updates_refused":
            return (
                "Check the data of the refused nodes: labels, language and size. If they are honest and their data differs, "
                "use the consensus none or a robust strategy (median)."
            )
        case "workers_failed":
            return "Mend what the reasons name, then resume the training."
        case "quorum_not_met":
            return "Bring the missing workers back, or lower quorum, then resume the training."
        case _:
            return ""


def _slower(spec: TrainingSpec, number: int, problem: FailureReason, out: Mapping[str, ObservedWorker]) -> str:
    """Return what makes training stable, the learning rate first."""
    rate = spec.learning_rate_of_round(number)
    now = "" if rate == spec.learning_rate else f" ({rate:.3g} in this round)"
    advice = f"The learning rate is {spec.learning_rate:g}{now}; try {spec.learning_rate / _SLOWER:.2g}."
    if spec.server_learning_rate is not None:
        advice += f" The server's learning rate is {spec.server_learning_rate:g}; lower it if the first round was good."
    overflows = problem.code == "not_finite" or any(_has(worker, _NOT_FINITE) for worker in out.values())
    if overflows and spec.mixed_precision:
        advice += " mixed_precision trains in bf16, which is coarse; leave it out."
    if overflows and "fp16" in spec.compression:
        advice += f" The compression {spec.compression!r} cannot hold values above 65,504; use another one."
    return advice
