"""Rounds as steps run them, on a real Postgres and real agents.

The tests check the data path of the updates, the draw of the workers, and what the API shows.
"""

import asyncio
import json

from starlette.requests import Request
from starlette.responses import Response

from api.domain import sampling
from tests.workers.agent import agents
from tests.workers.agent.impostor import Answer, impostor
from tests.workers.steps.live_cluster import LiveCluster
from workers.agent.protocol.training import TrainReport
from workers.steps import trainings as steps


def test_each_connect_changes_the_way_that_updates_take(live: LiveCluster) -> None:
    w1, w2, w3, w4 = live.workers
    to_aggregator = {(worker, live.aggregator) for worker in live.workers}
    links: dict[str, set[tuple[str, str]]] = {}
    losses: dict[str, float | None] = {}
    for topology in ("mesh", "ring", "star", "hierarchical"):
        live.connect(topology)
        status, rounds = live.train()
        assert status == "completed", rounds[-1].error
        assert [(row.data_path, row.data_path_reason, row.fallback) for row in rounds] == [(topology, None, None)] * 2
        assert all(link.bytes > 0 and link.seconds >= 0 for row in rounds for link in row.links)
        links[topology] = {(link.from_, link.to) for link in rounds[1].links}
        losses[topology] = rounds[1].global_loss
    assert links["star"] >= to_aggregator
    assert links["mesh"] == {(a, b) for a in live.workers for b in live.workers if a != b} | {(w1, live.aggregator)}
    assert links["ring"] == {(w1, w2), (w2, w3), (w3, w4), (w4, w1), (w1, live.aggregator)}
    assert {(w3, w1), (w4, w2), (w1, live.aggregator), (w2, live.aggregator)} <= links["hierarchical"]
    assert len(links["hierarchical"] & to_aggregator) == 2
    assert max(losses.values()) - min(losses.values()) < 1e-3  # type: ignore[type-var,operator]


def test_a_strategy_that_looks_at_every_update_takes_the_stars_way_and_says_so(live: LiveCluster) -> None:
    live.connect("ring")
    status, rounds = live.train(strategy="median", epochs=1)
    assert (status, rounds[0].data_path) == ("completed", "star")
    assert rounds[0].data_path_reason == "the strategy 'median' needs every single update"


def test_a_round_draws_its_workers_by_the_seed(live: LiveCluster) -> None:
    live.connect("mesh")
    drawn: dict[int, list[list[str]]] = {}
    for seed in (1, 1, 2):
        status, rounds = live.train(epochs=3, fraction=0.5, seed=seed, strategy="fedadam")
        assert status == "completed"
        for row in rounds:
            assert sorted(worker.state for worker in row.workers.values()) == ["done", "done", "not_sampled", "not_sampled"]
            assert (row.late_updates, row.notices) == (0, [])
        names = [[name for name, worker in row.workers.items() if worker.state == "done"] for row in rounds]
        assert drawn.setdefault(seed, names) == names
    assert drawn[1] != drawn[2]


def test_a_new_aggregator_finds_the_model_at_a_worker_that_is_not_in_the_round(live: LiveCluster) -> None:
    live.connect("star")
    seeds = (seed for seed in range(100) if sampling.draw(live.workers, 1, seed, 1) != sampling.draw(live.workers, 1, seed, 2))
    training_id = live.begin(epochs=3, fraction=0.25, seed=next(seeds))
    while not live.events("round.completed"):
        steps.advance(live.context, training_id)
    with agents.live_agent(live.aggregator, key=live.keys.key(live.aggregator)) as new_agent:
        live.sockets.paths[live.aggregator] = new_agent.peer.uds or ""
        status, rounds = live.run_to_end(training_id)
    assert (status, [row.round for row in rounds]) == ("completed", [1, 2, 3])
    assert rounds[1].base_digest == rounds[0].digest


def test_a_peer_that_is_lost_in_the_exchange_makes_the_round_a_star(live: LiveCluster) -> None:
    live.connect("ring")
    training_id = live.begin(epochs=1)
    steps.advance(live.context, training_id)
    # The data was checked. From now on the agent cannot be reached.
    live.sockets.paths[live.workers[2]] = "/nowhere.sock"
    status, rounds = live.run_to_end(training_id)
    assert status == "completed", rounds[-1].error
    assert live.workers[2] in (rounds[0].fallback or "")
    assert rounds[0].workers[live.workers[2]].state == "lost"
    assert [event["reason"] for event in live.events("round.fallback")] == [rounds[0].fallback]
    assert {link.to for link in rounds[0].links if link.from_ != live.aggregator} == {live.aggregator}


def always_training(worker: agents.LiveAgent) -> Answer:
    """Answer that the round is still training. Pass all other requests to the real worker."""

    async def answer(request: Request) -> Response:
        body, path = await request.body(), request.url.path
        if "rounds" in path:
            await asyncio.sleep(0.2)
            training_id = json.loads(body)["training_id"] if body else path.split("/")[2]
            report = TrainReport(node_id=worker.node_id, training_id=training_id, round=1, state="running")
            return Response(report.model_dump_json())
        response = await asyncio.to_thread(worker.http.request, request.method, path, content=body)
        return Response(response.content, response.status_code)

    return answer


def test_a_worker_that_misses_the_deadline_is_late_and_counted(live: LiveCluster) -> None:
    live.connect("star")
    with impostor(always_training(live.agents[3]), live.workers[3]) as slow:
        live.sockets.paths[live.workers[3]] = slow.uds or ""
        status, rounds = live.train(epochs=1, round_deadline_s=4, quorum=0.75)
    assert (status, rounds[0].late_updates) == ("completed", 1)
    late = rounds[0].workers[live.workers[3]]
    assert (late.state, "deadline" in (late.reason or "")) == ("late", True)
