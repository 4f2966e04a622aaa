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
from tests.workers.steps.house import House
from workers.agent.protocol.training import TrainReport
from workers.steps import trainings as steps


def test_each_connect_changes_the_way_that_updates_take(house: House) -> None:
    w1, w2, w3, w4 = house.workers
    up = {(worker, house.aggregator) for worker in house.workers}
    links: dict[str, set[tuple[str, str]]] = {}
    losses: dict[str, float | None] = {}
    for kind in ("mesh", "ring", "star", "hierarchical"):
        house.connect(kind)
        status, rounds = house.train()
        assert status == "completed", rounds[-1].error
        assert [(row.data_path, row.data_path_reason, row.fallback) for row in rounds] == [(kind, None, None)] * 2
        assert all(link.bytes > 0 and link.seconds >= 0 for row in rounds for link in row.links)
        links[kind] = {(link.from_, link.to) for link in rounds[1].links}
        losses[kind] = rounds[1].global_loss
    assert links["star"] >= up
    assert links["mesh"] == {(a, b) for a in house.workers for b in house.workers if a != b} | {(w1, house.aggregator)}
    assert links["ring"] == {(w1, w2), (w2, w3), (w3, w4), (w4, w1), (w1, house.aggregator)}
    assert {(w3, w1), (w4, w2), (w1, house.aggregator), (w2, house.aggregator)} <= links["hierarchical"]
    assert len(links["hierarchical"] & up) == 2
    assert max(losses.values()) - min(losses.values()) < 1e-3  # type: ignore[type-var,operator]


def test_a_strategy_that_looks_at_every_update_takes_the_stars_way_and_says_so(house: House) -> None:
    house.connect("ring")
    status, rounds = house.train(strategy="median", epochs=1)
    assert (status, rounds[0].data_path) == ("completed", "star")
    assert rounds[0].data_path_reason == "the strategy 'median' needs every single update"


def test_a_round_draws_its_workers_by_the_seed(house: House) -> None:
    house.connect("mesh")
    drawn: dict[int, list[list[str]]] = {}
    for seed in (1, 1, 2):
        status, rounds = house.train(epochs=3, fraction=0.5, seed=seed, strategy="fedadam")
        assert status == "completed"
        for row in rounds:
            assert sorted(worker.state for worker in row.workers.values()) == ["done", "done", "not_sampled", "not_sampled"]
            assert (row.late_updates, row.notices) == (0, [])
        names = [[name for name, worker in row.workers.items() if worker.state == "done"] for row in rounds]
        assert drawn.setdefault(seed, names) == names
    assert drawn[1] != drawn[2]


def test_a_new_aggregator_finds_the_model_at_a_worker_that_is_not_in_the_round(house: House) -> None:
    house.connect("star")
    differ = (
        seed for seed in range(100) if sampling.draw(house.workers, 1, seed, 1) != sampling.draw(house.workers, 1, seed, 2)
    )
    training_id = house.begin(epochs=3, fraction=0.25, seed=next(differ))
    while not house.events("round.completed"):
        steps.advance(house.context, training_id)
    with agents.live_agent(house.aggregator, key=house.keys.key(house.aggregator)) as anew:
        house.sockets.places[house.aggregator] = anew.peer.uds or ""
        status, rounds = house.go_on(training_id)
    assert (status, [row.round for row in rounds]) == ("completed", [1, 2, 3])
    assert rounds[1].base_digest == rounds[0].digest


def test_a_peer_that_is_lost_in_the_exchange_makes_the_round_a_star(house: House) -> None:
    house.connect("ring")
    training_id = house.begin(epochs=1)
    steps.advance(house.context, training_id)
    # The data was looked at; now nobody listens there any more.
    house.sockets.places[house.workers[2]] = "/nowhere.sock"
    status, rounds = house.go_on(training_id)
    assert status == "completed", rounds[-1].error
    assert house.workers[2] in (rounds[0].fallback or "")
    assert rounds[0].workers[house.workers[2]].state == "lost"
    assert [event["reason"] for event in house.events("round.fallback")] == [rounds[0].fallback]
    assert {link.to for link in rounds[0].links if link.from_ != house.aggregator} == {house.aggregator}


def at_work_for_ever(worker: agents.LiveAgent) -> Answer:
    """A worker that says of its round that it trains; all else the real one answers."""

    async def answer(request: Request) -> Response:
        body, path = await request.body(), request.url.path
        if "rounds" in path:
            await asyncio.sleep(0.2)
            training_id = json.loads(body)["training_id"] if body else path.split("/")[2]
            report = TrainReport(node_id=worker.node_id, training_id=training_id, round=1, state="running")
            return Response(report.model_dump_json())
        given = await asyncio.to_thread(worker.http.request, request.method, path, content=body)
        return Response(given.content, given.status_code)

    return answer


def test_a_worker_that_misses_the_deadline_is_late_and_counted(house: House) -> None:
    house.connect("star")
    with impostor(at_work_for_ever(house.agents[3]), house.workers[3]) as slow:
        house.sockets.places[house.workers[3]] = slow.uds or ""
        status, rounds = house.train(epochs=1, round_deadline_s=4, quorum=0.75)
    assert (status, rounds[0].late_updates) == ("completed", 1)
    late = rounds[0].workers[house.workers[3]]
    assert (late.state, "deadline" in (late.reason or "")) == ("late", True)
