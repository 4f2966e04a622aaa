"""How many calls a round takes, counted at the control plane's client."""

from collections import Counter
from typing import Any

import pytest

from tests.workers.steps.live_cluster import LiveCluster
from workers.agent_client import AgentClient

ROUNDS = 3


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Count the calls to each node, by what they ask for."""
    counted = Counter[tuple[str, str]]()
    original = AgentClient._call

    async def call(self: AgentClient, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        counted[self.node_id, f"{method} {path.split('?')[0]}"] += 1
        return await original(self, method, path, *arguments, **options)

    monkeypatch.setattr(AgentClient, "_call", call)
    return counted


def test_a_star_round_calls_each_worker_once(live: LiveCluster, calls: Counter[tuple[str, str]]) -> None:
    live.connect("star")
    status, rounds = live.train(epochs=ROUNDS, hold_out=False)
    assert (status, len(rounds)) == ("completed", ROUNDS)
    for worker in live.workers:
        of_rounds = {what: count for (node, what), count in calls.items() if node == worker and "/shards/" not in what}
        assert of_rounds == {"POST /models": 1, "POST /rounds/train": ROUNDS}, "the first model comes before the rounds"
    copies = [link for link in rounds[0].links if link.from_ == live.aggregator]
    assert {link.to for link in copies} == set(live.workers)
