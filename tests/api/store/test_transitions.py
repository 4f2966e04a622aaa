"""A status changes only by the table of legal moves, and with an event.

The database refuses rows that break its constraints.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from api.domain.events import EventType
from api.domain.status import IllegalMoveError
from api.domain.steps import Step
from api.store import events, transitions
from api.store.database import Database
from api.store.tables import ClusterRow, EventRow, NodeRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training


def test_a_move_and_its_event_are_one(database: Database) -> None:
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        transitions.move(uow.session, cluster, "connected", topology="mesh")
    with database.unit_of_work() as uow:
        found = events.read(uow.session, cluster.id, 0)
        assert [(event.seq, event.type) for event in found] == [(1, "cluster.initializing"), (2, "cluster.connected")]
        assert found[1].data == {"cluster_id": cluster.id, "from": "initializing", "status": "connected", "topology": "mesh"}


def test_an_illegal_move_leaves_nothing(database: Database) -> None:
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
    with pytest.raises(IllegalMoveError), database.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(ClusterRow, cluster.id), "terminated")
    with database.unit_of_work() as uow:
        assert uow.session.get_one(ClusterRow, cluster.id).status == "initializing"
        assert len(events.read(uow.session, cluster.id, 0)) == 1


def test_concurrent_events_are_numbered_without_gaps(database: Database) -> None:
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))

    def emit(number: int) -> None:
        with database.unit_of_work() as uow:
            events.emit(uow.session, cluster.id, EventType.CLUSTER_IDLE_WARNING, {"number": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(emit, range(80)))
    with database.unit_of_work() as uow:
        assert [event.seq for event in events.read(uow.session, cluster.id, 0)] == list(range(1, 82))


def test_an_event_type_outside_the_catalogue_is_refused(database: Database) -> None:
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
    with pytest.raises(ValueError, match=r"cluster\.unknown"), database.unit_of_work() as uow:
        events.emit(uow.session, cluster.id, EventType("cluster.unknown"), {})


def test_a_second_active_training_is_refused_by_the_database(database: Database) -> None:
    with pytest.raises(IntegrityError), database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        aggregator = make_node(uow.session, cluster, "aggregator")
        make_training(uow.session, cluster, aggregator)
        make_training(uow.session, cluster, aggregator, "training")


def test_a_second_aggregator_is_refused_by_the_database(database: Database) -> None:
    with pytest.raises(IntegrityError), database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        make_node(uow.session, cluster, "aggregator")
        make_node(uow.session, cluster, "aggregator", id="node_ps_other")


@pytest.mark.parametrize("values", [{"status": "running"}, {"status": "asleep"}, {"autonomy": 1.5}])
def test_impossible_nodes_are_refused_by_the_database(database: Database, values: dict[str, object]) -> None:
    with database.unit_of_work() as uow:
        node = make_node(uow.session, make_cluster(uow.session, make_project(uow.session)))
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    with pytest.raises(IntegrityError), database.unit_of_work() as uow:
        uow.session.execute(text(f"UPDATE nodes SET {assignments} WHERE id = :id"), {**values, "id": node.id})


def test_bells_ring_only_after_a_commit(database: Database) -> None:
    enqueued: list[tuple[str, str]] = []
    watched = Database(database.engine, lambda step, row_id: enqueued.append((step, row_id)))
    with pytest.raises(RuntimeError), watched.unit_of_work() as uow:
        uow.enqueue(Step.NODES_ADVANCE, "a")
        raise RuntimeError
    assert enqueued == []
    with watched.unit_of_work() as uow:
        uow.enqueue(Step.NODES_ADVANCE, "a")
        uow.enqueue(Step.NODES_ADVANCE, "a")
        assert enqueued == []
    assert enqueued == [(Step.NODES_ADVANCE, "a")]


def test_an_event_outlives_its_node_change_only_with_it(database: Database) -> None:
    with database.unit_of_work() as uow:
        node = make_node(uow.session, make_cluster(uow.session, make_project(uow.session)))
    with pytest.raises(ZeroDivisionError), database.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(NodeRow, node.id), "failed")
        raise ZeroDivisionError
    with database.unit_of_work() as uow:
        types = uow.session.scalars(select(EventRow.type).where(EventRow.cluster_id == node.cluster_id)).all()
        assert "node.failed" not in types
        assert uow.session.execute(update(NodeRow).where(NodeRow.id == node.id).values(error=None)).rowcount == 1  # type: ignore[attr-defined]
