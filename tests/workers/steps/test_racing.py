"""Two worker processes run at the same time. Each step happens once."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select

from api.services import clusters
from api.store import transitions
from api.store.database import Database
from api.store.tables import ClusterRow, EventRow, NodeRow
from tests.api.store.rows import make_cluster, make_node, make_project

ENDING, IDLE = 40, 15


def _ending(database: Database) -> list[str]:
    with database.unit_of_work() as uow:
        project = make_project(uow.session)
        rows = [make_cluster(uow.session, project) for _ in range(ENDING)]
        for row in rows:
            clusters.end(uow, row, "test")
        return [row.id for row in rows]


def _idle(database: Database) -> list[str]:
    with database.unit_of_work() as uow:
        project = make_project(uow.session)
        cluster_ids = []
        for _ in range(IDLE):
            cluster = make_cluster(uow.session, project)
            node = make_node(uow.session, cluster)
            cluster.created_at = node.started_at = func.clock_timestamp() - timedelta(hours=2)
            node.sandbox_id = f"sbx-{node.id}"
            transitions.move(uow.session, node, "running")
            cluster_ids.append(cluster.id)
        return cluster_ids


def test_two_processes_do_each_step_once(database: Database, postgres_url: str, tmp_path: Path) -> None:
    ending, idle = _ending(database), _idle(database)
    command = [sys.executable, "-m", "tests.workers.steps.racing", postgres_url, str(tmp_path)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n".join(ending))
        racer.stdin.close()
    for racer in racers:
        assert racer.wait(60) == 0
        racer.stdout.close()  # type: ignore[union-attr]
    with database.unit_of_work() as uow:
        counts = Counter(
            (event.cluster_id, event.type)
            for event in uow.session.scalars(select(EventRow).where(EventRow.cluster_id.in_([*ending, *idle])))
        )
        assert {uow.session.get_one(ClusterRow, cluster_id).status for cluster_id in ending} == {"terminated"}
        nodes = uow.session.scalars(select(NodeRow.status).where(NodeRow.cluster_id.in_(idle)))
        assert set(nodes) == {"running"}
    assert [counts[cluster_id, "cluster.terminated"] for cluster_id in ending] == [1] * ENDING
    assert [counts[cluster_id, "cluster.idle_warning"] for cluster_id in idle] == [1] * IDLE
