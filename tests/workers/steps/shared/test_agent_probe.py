"""Running nodes whose agent cannot be reached say so. The agents are real."""

from api.domain.records import FailureReason
from api.store import transitions
from api.store.tables import NodeRow
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps.shared import agent_probe

_NOWHERE = "/nobody/listens/here.sock"


def _error(live: LiveCluster, node_id: str) -> FailureReason | None:
    with live.database.unit_of_work() as uow:
        row = uow.session.get_one(NodeRow, node_id)
        assert row.status == "running"
        return row.error


def test_a_node_that_cannot_be_reached_says_so_until_it_can(live: LiveCluster) -> None:
    silent, other = live.workers[:2]
    socket, live.sockets.paths[silent] = live.sockets.paths[silent], _NOWHERE
    agent_probe.probe(live.context)
    error = _error(live, silent)
    assert error is not None
    assert error.code == "agent_unreachable"
    assert "calls to its agent do not pass" in error.detail
    assert _error(live, other) is None
    live.sockets.paths[silent] = socket
    agent_probe.probe(live.context)
    assert _error(live, silent) is None
    with live.database.unit_of_work() as uow:
        for node_id in (*live.workers, live.aggregator):
            transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "terminating")
