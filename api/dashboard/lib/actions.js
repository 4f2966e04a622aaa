// Every action of the walkthrough, as a dialog.

import { openAction } from "./dialog.js";

/** @typedef {import("./context.js").Context} Context */
/** @typedef {[string, string[]][]} Groups */

/** @type {Groups} */
export const OPTION_GROUPS = [
  ["Essentials", ["dataset", "epochs", "batch_size", "learning_rate", "optimizer", "strategy"]],
  ["Data", ["text_field", "label_field", "label_names", "on_bad_rows", "validation", "hold_out", "max_length", "initial_model"]],
  ["Local training", ["local_epochs", "schedule", "weight_decay", "seed", "mixed_precision", "freeze_layers"]],
  ["Federation", ["federated", "fraction", "min_workers", "quorum", "round_deadline_s", "late_joiners", "server_learning_rate", "server_momentum", "server_beta_1", "server_beta_2", "server_tau", "proximal_mu", "trim_fraction", "byzantine_count"]],
  ["Updates", ["compression", "compression_ratio", "lora_rank", "gradient_compression"]],
  ["Privacy", ["secure_aggregation", "differential_privacy"]],
  ["Ends early", ["target_accuracy", "patience", "budget_usd", "max_minutes"]],
];

/** @param {string} path */
const go = (path) => (location.hash = path);

export const createCluster = () =>
  openAction({
    title: "Create a cluster",
    text: "An empty cluster costs nothing. Deploy nodes into it next.",
    submit: "Create the cluster",
    operation: "create_cluster",
    groups: [
      ["Essentials", ["name", "topology", "architecture"]],
      ["Consensus and autonomy", ["consensus", "daa_enabled", "wasm_optimization"]],
      ["Limits", ["idle_timeout_minutes", "budget_usd"]],
    ],
    request: (body) => ({ path: "/v1/clusters", method: "POST", body }),
    done: (cluster) => go(`/clusters/${cluster.cluster_id}`),
  });

/** @param {Context} ctx @param {string} clusterId @param {boolean} hasAggregator @param {() => void} refresh */
export const deployNode = (ctx, clusterId, hasAggregator, refresh) =>
  openAction({
    title: "Deploy a node",
    text: hasAggregator ? "The node gets a sandbox of its own, which costs from its start." : "A training needs workers and one parameter server, which aggregates. Each gets a sandbox of its own, which costs from its start.",
    submit: "Deploy the node",
    operation: "deploy_node",
    groups: [
      ["Essentials", ["node_type", "model"]],
      ["More", ["role", "template", "autonomy", "capabilities", "data_owner"]],
    ],
    request: (body) => ({ path: `/v1/clusters/${clusterId}/nodes`, method: "POST", body }),
    done: (node) => (ctx.notify(`${node.node_id} is being started.`), refresh()),
  });

/** @param {Context} ctx @param {any} cluster @param {() => void} refresh */
export const connect = (ctx, cluster, refresh) =>
  openAction({
    title: "Connect the nodes",
    text: "The running nodes are connected in the topology. It can be changed between trainings.",
    submit: "Connect",
    operation: "connect_cluster",
    values: { topology: cluster.topology },
    request: (body) => ({ path: `/v1/clusters/${cluster.cluster_id}/connect`, method: "POST", body }),
    done: () => (ctx.notify("The cluster is connected."), refresh()),
  });

/** @param {any} cluster */
export const train = (cluster) =>
  openAction({
    title: "Start a training",
    text: "Every worker's data is checked in its own sandbox first. The check can take some seconds.",
    submit: "Start the training",
    operation: "start_training",
    groups: OPTION_GROUPS,
    values: { dataset: "/data/train_*.json", epochs: "10" },
    context: { consensus: cluster.config.consensus !== "none" },
    request: (body) => ({ path: `/v1/clusters/${cluster.cluster_id}/trainings`, method: "POST", body }),
    done: (training) => go(`/trainings/${training.training_id}`),
  });

/** @param {any} cluster */
export const search = (cluster) =>
  openAction({
    title: "Start a search",
    text: "A search trains once for each combination of the space and names the best. The space is JSON, for example {\"learning_rate\": [0.01, 0.001]}.",
    submit: "Start the search",
    operation: "create_search",
    groups: [["Search", ["space", "method", "metric", "max_trainings", "early_stopping", "grace_epochs", "grace_trainings"]], ...OPTION_GROUPS],
    values: { dataset: "/data/train_*.json", epochs: "5", space: '{"learning_rate": [0.01, 0.001]}' },
    context: { consensus: cluster.config.consensus !== "none" },
    request: (body) => ({ path: `/v1/clusters/${cluster.cluster_id}/searches`, method: "POST", body }),
    done: (made) => go(`/searches/${made.search_id}`),
  });

/** @param {Context} ctx @param {any} cluster @param {() => void} refresh */
export const terminate = (ctx, cluster, refresh) =>
  openAction({
    title: `Terminate ${cluster.name}?`,
    text: "Every sandbox of the cluster ends, with all files in it. Trainings are stopped. Exported models stay and can be downloaded. This cannot be undone.",
    submit: "Terminate the cluster",
    danger: true,
    request: () => ({ path: `/v1/clusters/${cluster.cluster_id}/terminate`, method: "POST" }),
    done: () => (ctx.notify("The cluster is being terminated."), refresh()),
  });

/** @param {Context} ctx @param {any} node @param {() => void} refresh */
export const removeNode = (ctx, node, refresh) =>
  openAction({
    title: `Remove ${node.node_id}?`,
    text: "Its sandbox ends, with all files in it. This cannot be undone.",
    submit: "Remove the node",
    danger: true,
    request: () => ({ path: `/v1/nodes/${node.node_id}`, method: "DELETE" }),
    done: () => (ctx.notify("The node is being removed."), refresh()),
  });

/** @param {Context} ctx @param {any} training @param {() => void} refresh */
export const stop = (ctx, training, refresh) =>
  openAction({
    title: "Stop the training?",
    text: "The current round is given up and the last completed one is kept. The training can be resumed.",
    submit: "Stop the training",
    danger: true,
    request: () => ({ path: `/v1/trainings/${training.training_id}/stop`, method: "POST" }),
    done: () => (ctx.notify("The training is being stopped."), refresh()),
  });

/** @param {Context} ctx @param {any} training @param {() => void} refresh */
export const resume = (ctx, training, refresh) =>
  openAction({
    title: training.status === "completed" ? "Extend the training" : "Resume the training",
    text: "It goes on after its last completed round, with the workers that run now.",
    submit: training.status === "completed" ? "Extend" : "Resume",
    operation: "resume_training",
    values: training.status === "completed" ? { epochs: "5" } : {},
    request: (body) => ({ path: `/v1/trainings/${training.training_id}/resume`, method: "POST", body }),
    done: () => (ctx.notify("The training goes on."), refresh()),
  });

/** @param {any} training */
export const exportModel = (training) =>
  openAction({
    title: "Export the model",
    text: "The newest global model becomes an archive with its weights, its card and how to load it.",
    submit: "Export",
    operation: "export_model",
    values: { name: "model_v1" },
    request: (body) => ({ path: `/v1/trainings/${training.training_id}/exports`, method: "POST", body }),
    done: (model) => go(`/models/${model.model_id}`),
  });
