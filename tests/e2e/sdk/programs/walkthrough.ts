// The walkthrough, with the client that hey-api generates.
// It needs FLOW_NEXUS_URL and FLOW_NEXUS_API_KEY, and prints what it got as one line of JSON.

import { createClient } from "./client/client";
import * as api from "./client";
import type { NodeType } from "./client";

const client = createClient({ baseUrl: process.env.FLOW_NEXUS_URL, auth: process.env.FLOW_NEXUS_API_KEY, throwOnError: true });
const wait = { Prefer: "wait=120" };

function shard(number: number): Blob {
  const rows = [];
  for (let row = 0; row < 30; row++) {
    rows.push({ text: `item ${number} ${row} is great and sturdy`, sentiment: "positive" });
    rows.push({ text: `item ${number} ${row} is broken and noisy`, sentiment: "negative" });
  }
  return new Blob([JSON.stringify(rows)]);
}

async function main(): Promise<object> {
  const wanted = { name: "typescript", architecture: "cnn", consensus: "none" } as const;
  const created = await api.createCluster({ client, throwOnError: true, body: wanted });
  const cluster = { cluster_id: created.data.cluster_id };
  const nodes: string[] = [];
  const kinds: NodeType[] = ["worker", "worker", "parameter_server"];
  for (const node_type of kinds) {
    const node = await api.deployNode({ client, throwOnError: true, path: cluster, headers: wait, body: { node_type } });
    nodes.push(node.data.node_id);
  }
  const connection = await api.connectCluster({ client, throwOnError: true, path: cluster, body: {} });
  for (const [index, sandbox_id] of nodes.slice(0, 2).entries()) {
    const query = { path: `/data/train_${index}.json` };
    await api.uploadFile({ client, throwOnError: true, path: { sandbox_id }, query, body: shard(index) });
  }
  const asked = { dataset: "/data/train_*.json", epochs: 2, batch_size: 8 };
  let training = (await api.startTraining({ client, throwOnError: true, path: cluster, body: asked })).data;
  const path = { training_id: training.training_id };
  while (training.status === "pending" || training.status === "training") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    training = (await api.getTraining({ client, throwOnError: true, path })).data;
  }
  const status = await api.getClusterStatus({ client, throwOnError: true, path: cluster });
  const events = await api.listTrainingEvents({ client, throwOnError: true, path, query: { types: "round.*" } });
  const rounds: number[] = [];
  for (const event of events.data.items) if (event.type === "round.completed") rounds.push(event.round);
  const texts = { inputs: ["the lamp is great and sturdy"] };
  const prediction = await api.predict({ client, throwOnError: true, path: cluster, headers: wait, body: texts });
  const model = await api.exportModel({ client, throwOnError: true, path, headers: wait, body: { name: "model" } });
  const archive = await api.downloadModel({ client, throwOnError: true, path: { model_id: model.data.model_id } });
  const ended = await api.terminateCluster({ client, throwOnError: true, path: cluster, headers: wait });
  return {
    edges: connection.data.connections.length,
    training: training.status,
    epoch: training.epoch,
    rounds,
    sessions: status.data.training_sessions.length,
    sentiments: prediction.data.results?.predictions.map((row) => row.sentiment) ?? [],
    bytes: archive.data.size === model.data.size,
    cluster: ended.data.status,
  };
}

main().then((found) => console.log(JSON.stringify(found)));
