"""A failed round is reported by its cause."""

import pytest

from api.domain.records import FailureReason
from api.domain.red_flags import ObservedWorker
from api.domain.round_failure import explain
from api.domain.training_spec import TrainingSpec

QUORUM = FailureReason(code="quorum_not_met", detail="0 updates were accepted; the quorum is 2")
DIVERGED = "the training loss is not finite; try a lower learning rate (diverged)"
NAN = "the update holds NaN or infinity"


def spec(**fields: object) -> TrainingSpec:
    return TrainingSpec.model_validate({"dataset": "/d", "epochs": 10, "learning_rate": 5.0, "schedule": "constant", **fields})


def workers(*found: tuple[str, str | None]) -> dict[str, ObservedWorker]:
    return {f"w{number}": ObservedWorker(state, None, reason) for number, (state, reason) in enumerate(found, start=1)}


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        ([("failed", DIVERGED)] * 2, "diverged", "The learning rate is 5; try 0.5."),
        ([("rejected", NAN), ("failed", DIVERGED), ("done", None)], "diverged", "The learning rate is 5"),
        (
            [("rejected", "worse than the others' updates")] * 2 + [("rejected", "no evidence")],
            "updates_refused",
            "2 rejected, worse",
        ),
        ([("failed", "batches of 16 are too large (out_of_memory)")] * 2, "out_of_memory", "smaller batch_size than 32"),
        ([("failed", "The agent stopped, limit_hits: memory (agent_died)")], "out_of_memory", "sandbox with more memory"),
        ([("failed", "no file matches (no_match)"), ("done", None)], "workers_failed", "no file matches (no_match) (w1)"),
        ([("lost", "its sandbox no longer exists"), ("lost", None)], "quorum_not_met", "Bring the missing workers back"),
        ([("done", None)], "quorum_not_met", "0 updates were accepted"),
    ],
)
def test_the_cause_of_most_missing_updates_is_the_code(found: list[tuple[str, str | None]], code: str, says: str) -> None:
    reason, flag = explain(spec(), 3, QUORUM, workers(*found))
    assert reason.code == code
    assert says in reason.detail
    assert (flag.code, flag.round, flag.node_id) == ("round_failed", 3, None)
    assert flag.suggestion in reason.detail


def test_reasons_are_counted_and_name_their_nodes() -> None:
    found = [("rejected", "worse")] * 3 + [("rejected", "idle")]
    reason, _ = explain(spec(), 1, QUORUM, workers(*found))
    assert "3 rejected, worse (w1, w2, w3); 1 rejected, idle (w4)" in reason.detail


def test_what_else_makes_numbers_overflow_is_named() -> None:
    options = {"mixed_precision": True, "compression": "fp16", "strategy": "fedadam", "server_learning_rate": 3.0}
    reason, _ = explain(spec(**options), 1, QUORUM, workers(("rejected", NAN)))
    assert "bf16" in reason.detail
    assert "'fp16' cannot hold values above 65,504" in reason.detail
    assert "The server's learning rate is 3" in reason.detail
    assert "bf16" not in explain(spec(), 1, QUORUM, workers(("rejected", NAN)))[0].detail


def test_a_rate_that_falls_is_named_twice() -> None:
    reason, _ = explain(spec(schedule="cosine"), 6, QUORUM, workers(("failed", DIVERGED)))
    assert "The learning rate is 5 (2.5 in this round); try 0.5." in reason.detail


@pytest.mark.parametrize("code", ["diverged", "not_finite", "norm_exceeded"])
def test_an_aggregator_that_finds_the_divergence_names_the_rate_too(code: str) -> None:
    reason, _ = explain(spec(), 1, FailureReason(code=code, detail="the model holds NaN"), workers(("done", None)))
    assert (reason.code, "try 0.5" in reason.detail) == ("diverged", True)


def test_another_problem_stays_as_it_is() -> None:
    problem = FailureReason(code="strategy_unavailable", detail="no such strategy")
    reason, _ = explain(spec(), 1, problem, workers(("failed", DIVERGED)))
    assert reason.code == "strategy_unavailable"
    assert reason.detail.startswith("Round 1 failed: no such strategy")
