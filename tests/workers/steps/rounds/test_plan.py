"""Rounds as steps run them, on a real Postgres and real agents: which way the updates go, who is drawn, and what is shown."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select, update
from starlette.requests import Request
from starlette.responses import Response

from api.domain import ids, sampling
from api.domain.sandboxes import Endpoint
from api.schemas.trainings import Round, TrainingCreate
from api.services import clusters, trainings
from api.settings import Settings
from api.store import transitions
from api.store.database import Database
from api.store.tables import EventRow, NodeRow
from tests.api.store.rows import make_cluster, make_node, make_project
from tests.workers.agent import agents
from tests.workers.agent.impostor import Answer, impostor
from tests.workers.agent.texts import samples
from workers.agent.protocol.training import TrainReport
from workers.agent_client import ClusterKeys
from workers.context import Context
from workers.sandboxes.client import SandboxClient
from workers.steps import trainings as steps


@dataclass
class Sockets:
    """Where the agents of a test listen: a sandbox's id is its node's."""

    places: dict[str, str]

    async def endpoint(self, sandbox_id: str, port: int) -> Endpoint:
        return Endpoint("http://agent", uds=self.places[sandbox_id])

    peer_endpoint = endpoint


@dataclass
class House:
    """A connected cluster of four workers and an aggregator, whose agents run in this process."""

    database: Database
    context: Context
    sockets: Sockets
    project_id: str
    cluster_id: str
    workers: list[str]
    aggregator: str
    agents: list[agents.LiveAgent]
    keys: ClusterKeys

    def connect(self, topology: Any) -> None:
        with self.database.unit_of_work() as uow:
            clusters.connect(uow, self.project_id, self.cluster_id, topology)

    def train(self, **fields: Any) -> tuple[str, list[Round]]:
        """Train to the end; returns the training's status and its rounds."""
        return self.go_on(self.begin(**fields))

    def begin(self, **fields: Any) -> str:
        body = {"dataset": agents.DATASET, "epochs": 2, "batch_size": 8, "learning_rate": 0.01, "max_length": 16, **fields}
        spec = TrainingCreate.model_validate(body).spec()
        with self.database.unit_of_work() as uow:
            return trainings.start(uow, self.project_id, self.cluster_id, spec).id

    def go_on(self, training_id: str) -> tuple[str, list[Round]]:
        for _ in range(60):
            steps.advance(self.context, training_id)
            with self.database.unit_of_work() as uow:
                # A lost node's own step would find that its sandbox is gone for good; no such step runs here.
                uow.session.execute(update(NodeRow).where(NodeRow.status == "lost").values(due_at=None))
                row = trainings.get(uow.session, self.project_id, training_id)
                assert row.status != "refused", row.error
                if row.status not in ("pending", "training"):
                    found = trainings.rounds(uow.session, self.project_id, training_id, 100, 0)
                    return row.status, [Round.of(*one) for one in found]
        raise AssertionError("the training did not end")

    def events(self, kind: str) -> list[dict[str, Any]]:
        with self.database.unit_of_work() as uow:
            return list(uow.session.scalars(select(EventRow.data).where(EventRow.type == kind).order_by(EventRow.seq)))


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[House]:
    settings = Settings.model_validate(
        {
            "database_url": "postgresql+psycopg://unused",
            "redis_url": "redis://unused",
            "secret_key": "s" * 32,
            "models_dir": tmp_path,
            "E2B_API_KEY": "unused",
        }
    )
    part = ids.random_part()
    names = [*(f"w{number}_{part}" for number in range(1, 5)), f"ps_{part}"]
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        for name in names:
            role = "aggregator" if name == names[-1] else "worker"
            node = make_node(uow.session, cluster, role, id=name, model="/models/tiny", sandbox_id=name)
            transitions.move(uow.session, node, "running")
            uow.session.flush()
        project_id, cluster_id = cluster.project_id, cluster.id
    keys = ClusterKeys(settings.secret_key, cluster_id)
    with ExitStack() as running:
        made = [running.enter_context(agents.live_agent(name, "worker", keys.key(name))) for name in names]
        for number, worker in enumerate(made[:-1]):
            worker.put(f"/data/train_{number}.json", samples(24, number * 1000))
        sockets = Sockets({agent.node_id: agent.peer.uds or "" for agent in made})
        context = Context(settings, database, cast(SandboxClient, sockets))
        yield House(database, context, sockets, project_id, cluster_id, names[:-1], names[-1], made, keys)


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
