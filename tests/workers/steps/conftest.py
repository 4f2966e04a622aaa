from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from api.domain import ids
from api.settings import Settings
from api.store import transitions
from api.store.database import Database
from tests.api.store.rows import make_cluster, make_node, make_project
from tests.workers.agent import agents
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster, Sockets
from workers.agent_client import ClusterKeys
from workers.context import Context
from workers.sandboxes.client import SandboxClient


@pytest.fixture
def live(database: Database, tmp_path: Path) -> Iterator[LiveCluster]:
    settings = Settings.model_validate(
        {
            "database_url": "postgresql+psycopg://unused",
            "redis_url": "redis://unused",
            "secret_key": "s" * 32,
            "models_dir": tmp_path,
            "E2B_API_KEY": "unused",
        }
    )
    suffix = ids.random_part()
    names = [*(f"w{number}_{suffix}" for number in range(1, 5)), f"ps_{suffix}"]
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
        live_agents = [running.enter_context(agents.live_agent(name, "worker", keys.key(name))) for name in names[:-1]]
        live_agents.append(running.enter_context(agents.live_agent(names[-1], "aggregator", keys.key(names[-1]))))
        for number, worker in enumerate(live_agents[:-1]):
            worker.put(f"/data/train_{number}.json", samples(24, number * 1000))
        sockets = Sockets({agent.node_id: agent.peer.uds or "" for agent in live_agents})
        context = Context(settings, database, cast(SandboxClient, sockets))
        running.callback(context.network.close)
        yield LiveCluster(database, context, sockets, project_id, cluster_id, names[:-1], names[-1], live_agents, keys)
