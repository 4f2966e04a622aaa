"""The walkthrough, with the client that OpenAPI Generator makes for Python.

It needs FLOW_NEXUS_URL and FLOW_NEXUS_API_KEY, and prints what it got as one line of JSON.
"""

import json
import os
import time

import flownexus as api

WAIT = "wait=120"


def shard(number: int) -> bytes:
    words = [("positive", "great and sturdy"), ("negative", "broken and noisy")]
    rows = [{"text": f"item {number} {row} is {text}", "sentiment": label} for row in range(30) for label, text in words]
    return json.dumps(rows).encode()


def main(client: api.ApiClient) -> dict[str, object]:
    clusters, trainings, models = api.ClustersApi(client), api.TrainingsApi(client), api.ModelsApi(client)
    wanted = api.ClusterCreate(name="openapi-generator", architecture=api.Architecture.CNN, consensus=api.Consensus.NONE)
    cluster = clusters.create_cluster(wanted).cluster_id
    kinds = [api.NodeType.WORKER, api.NodeType.WORKER, api.NodeType.PARAMETER_SERVER]
    deployed = [api.NodesApi(client).deploy_node(cluster, api.NodeDeploy(node_type=kind), prefer=WAIT) for kind in kinds]
    connection = clusters.connect_cluster(cluster, api.ClusterConnect())
    for number, node in enumerate(deployed[:2]):
        api.SandboxesApi(client).upload_file(node.node_id, f"/data/train_{number}.json", shard(number))
    asked = api.TrainingCreate(dataset="/data/train_*.json", epochs=2, batch_size=8)
    training = trainings.start_training(cluster, asked)
    while training.status in (api.TrainingState.PENDING, api.TrainingState.TRAINING):
        time.sleep(0.5)
        training = trainings.get_training(training.training_id)
    status = clusters.get_cluster_status(cluster)
    page = api.EventsApi(client).list_training_events(training.training_id, types="round.*")
    events = [item.actual_instance for item in page.items]
    texts = api.PredictionCreate(inputs=["the lamp is great and sturdy"])
    prediction = api.PredictionsApi(client).predict(cluster, texts, prefer=WAIT)
    model = models.export_model(training.training_id, api.ExportCreate(name="model"), prefer=WAIT)
    archive = models.download_model(model.model_id)
    ended = clusters.terminate_cluster(cluster, prefer=WAIT)
    return {
        "edges": len(connection.connections),
        "training": training.status,
        "epoch": training.epoch,
        "rounds": [event.round for event in events if isinstance(event, api.RoundCompletedEvent)],
        "sessions": len(status.training_sessions),
        "sentiments": [row.sentiment for row in prediction.results.predictions],
        "bytes": len(archive) == model.size,
        "cluster": ended.status,
    }


if __name__ == "__main__":
    settings = api.Configuration(host=os.environ["FLOW_NEXUS_URL"], access_token=os.environ["FLOW_NEXUS_API_KEY"])
    with api.ApiClient(settings) as session:
        print(json.dumps(main(session)))
