"""The graphs for predictions are there when a training has ended. Agents and Postgres are real."""

from hashlib import sha256

import pytest

from api.domain.specs import PredictionSpec
from api.services import predictions
from api.store.tables import ClusterRow, NodeRow, PredictionRow
from tests.workers.steps.live_cluster import LiveCluster
from workers.context import Context
from workers.steps import predictions as steps
from workers.steps.rounds import graphs
from workers.steps.shared.training_snapshot import TrainingSnapshot


def _train(live: LiveCluster, **fields: object) -> str:
    live.connect("star")
    with live.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, live.cluster_id)
        cluster.config = cluster.config.model_copy(update={"wasm_optimization": True})
        for name in live.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
    training_id = live.begin(epochs=1, **fields)
    assert live.run_to_end(training_id)[0] == "completed"
    return training_id


def _graphs(live: LiveCluster, training_id: str) -> list[dict[str, tuple[str, int]]]:
    """Return each agent's graphs: name -> digest and time of the last change."""
    folders = [agent.root / "model" / training_id for agent in live.agents]
    return [
        {path.name: (sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.glob("*.onnx")}
        for folder in folders
    ]


def test_the_aggregator_writes_the_graph_once_and_the_first_prediction_writes_none(live: LiveCluster) -> None:
    training_id = _train(live)
    *of_workers, of_aggregator = before = _graphs(live, training_id)
    global_name = f"{live.read(training_id).digest}.onnx"
    assert set(of_aggregator) == {global_name}, "there is no validation file to check an int8 graph on"
    for of_worker in of_workers:
        assert of_worker[global_name][0] == of_aggregator[global_name][0]
        assert any(name.startswith("local-") for name in of_worker)
    for aggregation in ("global", "mean"):
        with live.database.unit_of_work() as uow:
            spec = PredictionSpec(aggregation, ("a text",), None, None)
            prediction_id = predictions.start(uow, live.project_id, live.cluster_id, spec).id
        steps.advance(live.context, prediction_id)
        with live.database.unit_of_work() as uow:
            row = uow.session.get_one(PredictionRow, prediction_id)
            assert (row.status, row.error) == ("completed", None)
    assert _graphs(live, training_id) == before


def test_a_training_ends_though_no_graph_can_be_made(live: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = dict(live.sockets.paths)
    make_graphs = graphs.make_graphs

    async def unreachable(context: Context, training: TrainingSnapshot) -> None:
        live.sockets.paths.update(dict.fromkeys(paths, "/nobody/listens/here.sock"))
        await make_graphs(context, training)

    monkeypatch.setattr(graphs, "make_graphs", unreachable)
    training_id = _train(live)
    assert _graphs(live, training_id) == [{}] * len(live.agents)
