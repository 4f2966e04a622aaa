"""The walkthrough, with the client that openapi-python-client generates.

It needs FLOW_NEXUS_URL and FLOW_NEXUS_API_KEY, and prints what it got as one line of JSON.
"""

import io
import json
import os
import tarfile
import time
from typing import TypeVar

from flow_nexus import AuthenticatedClient
from flow_nexus.api.clusters import connect_cluster, create_cluster, get_cluster_status, terminate_cluster
from flow_nexus.api.events import list_training_events
from flow_nexus.api.models import download_model, export_model
from flow_nexus.api.nodes import deploy_node
from flow_nexus.api.predictions import predict
from flow_nexus.api.sandboxes import upload_file
from flow_nexus.api.trainings import get_training, start_training
from flow_nexus.models import (
    Architecture,
    ClusterConnect,
    ClusterCreate,
    Consensus,
    ExportCreate,
    NodeDeploy,
    NodeType,
    PredictionCreate,
    Problem,
    RoundCompletedEvent,
    TrainingCreate,
    TrainingState,
)
from flow_nexus.types import File

T = TypeVar("T")
WAIT = "wait=120"


def answer(parsed: T | Problem | None) -> T:
    """Return the answer, or raise what the service says."""
    if parsed is None or isinstance(parsed, Problem):
        raise SystemExit(f"refused: {parsed}")
    return parsed


def shard(number: int) -> File:
    words = [("positive", "great and sturdy"), ("negative", "broken and noisy")]
    rows = [{"text": f"item {number} {row} is {text}", "sentiment": label} for row in range(30) for label, text in words]
    return File(payload=io.BytesIO(json.dumps(rows).encode()))


def main(client: AuthenticatedClient) -> dict[str, object]:
    wanted = ClusterCreate(name="python", architecture=Architecture.CNN, consensus=Consensus.NONE)
    cluster = answer(create_cluster.sync(client=client, body=wanted)).cluster_id
    kinds = [NodeType.WORKER, NodeType.WORKER, NodeType.PARAMETER_SERVER]
    nodes = [answer(deploy_node.sync(cluster, client=client, body=NodeDeploy(node_type=kind), prefer=WAIT)) for kind in kinds]
    connection = answer(connect_cluster.sync(cluster, client=client, body=ClusterConnect()))
    for number, node in enumerate(nodes[:2], start=1):
        answer(upload_file.sync(node.node_id, client=client, body=shard(number), path=f"/data/train_{number}.json"))
    asked = TrainingCreate(dataset="/data/train_*.json", epochs=2, batch_size=8)
    training = answer(start_training.sync(cluster, client=client, body=asked))
    while training.status in (TrainingState.PENDING, TrainingState.TRAINING):
        time.sleep(0.5)
        training = answer(get_training.sync(training.training_id, client=client))
    status = answer(get_cluster_status.sync(cluster, client=client))
    events = answer(list_training_events.sync(training.training_id, client=client, types="round.*"))
    texts = PredictionCreate(inputs=["the lamp is great and sturdy"])
    prediction = answer(predict.sync(cluster, client=client, body=texts, prefer=WAIT))
    exported = ExportCreate(name="model")
    model = answer(export_model.sync(training.training_id, client=client, body=exported, prefer=WAIT))
    archive = answer(download_model.sync(model.model_id, client=client))
    ended = answer(terminate_cluster.sync(cluster, client=client, prefer=WAIT))
    return {
        "edges": len(connection.connections),
        "training": training.status,
        "epoch": training.epoch,
        "rounds": [event.round_ for event in events.items if isinstance(event, RoundCompletedEvent)],
        "sessions": len(status.training_sessions),
        "sentiments": [row.sentiment for row in prediction.results.predictions] if prediction.results else [],
        "files": len(tarfile.open(fileobj=archive.payload).getnames()),
        "cluster": ended.status,
    }


if __name__ == "__main__":
    with AuthenticatedClient(os.environ["FLOW_NEXUS_URL"], os.environ["FLOW_NEXUS_API_KEY"], timeout=None) as session:
        print(json.dumps(main(session)))
