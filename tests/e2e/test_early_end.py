"""A training that ends early gives its reason, in status, in its row and in the last event."""

import json
import re
from typing import Any

import pytest

from tests.e2e.walk import Connected, Walk

pytestmark = pytest.mark.timeout(300)


def test_a_training_ends_at_its_target_at_its_budget_or_without_progress(walk: Walk, pair: Connected) -> None:
    cluster_id, workers, _ = pair
    walk.shards(workers, 60)
    rules: list[tuple[dict[str, Any], str]] = [
        ({"target_accuracy": 0.3}, "target_reached"),
        ({"budget_usd": 1e-9}, "budget_spent"),
        ({"max_minutes": 1e-6}, "time_over"),
        ({"patience": 1, "learning_rate": 1e-9}, "no_progress"),
    ]
    for rule, code in rules:
        training_id = walk.train(cluster_id, **{"epochs": 40, **rule})["training_id"]
        session = walk.until(cluster_id, "completed")
        assert session["stop_reason"]["code"] == code
        assert session["total_epochs"] == 40, "the requested epochs stay"
        assert 1 <= session["epoch"] < 40, "only trained epochs count"
        assert session["remaining_seconds"] == 0
        training = walk.call("GET", f"/v1/trainings/{training_id}")
        assert training["stop_reason"] == session["stop_reason"]
        text = walk.http.get(f"/v1/trainings/{training_id}/events", timeout=20).text
        last = json.loads(re.findall(r"^data: (.+)$", text, re.MULTILINE)[-1])
        assert last["stop_reason"]["code"] == code


@pytest.mark.parametrize("rule", [{"target_accuracy": 1.5}, {"patience": 0}, {"budget_usd": -1}, {"max_minutes": 0}])
def test_a_rule_that_could_never_hold_is_refused(walk: Walk, rule: dict[str, Any]) -> None:
    cluster_id = walk.create()
    answer = walk.train(cluster_id, status=422, **rule)
    assert answer["errors"][0]["pointer"] == f"/{next(iter(rule))}"
    walk.terminate(cluster_id)
