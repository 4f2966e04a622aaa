// One cluster: its nodes as a live graph, its trainings, its cost and its events.

import * as actions from "../lib/actions.js";
import { all, api } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { bytes, number, percent, seconds, usd } from "../lib/format.js";
import { graph } from "../lib/graph.js";
import { openUploads } from "../lib/uploads.js";
import { live } from "../lib/live.js";
import { badge, button, card, empty, id, link, loading, meter, stat, stats, table, time } from "../lib/parts.js";

/** @typedef {import("../lib/types.js").ClusterStatus} ClusterStatus */
/**
 * @typedef {{cluster: import("../lib/types.js").Cluster, status: ClusterStatus, nodes: import("../lib/types.js").ClusterNode[],
 *   connections: import("../lib/types.js").Connections, round: import("../lib/types.js").Round | null}} Shown
 */

/** @param {import("../lib/context.js").Context} ctx */
export default function cluster(ctx) {
  const [clusterId] = ctx.params;
  const base = `/v1/clusters/${clusterId}`;
  /** @type {Shown | null} */
  let shown = null;
  const refresh = ctx.every(5000, async (signal) => {
    const [own, status, nodes, { connections }] = await Promise.all([
      api(base, { signal }),
      api(`${base}/status`, { signal }),
      all(`${base}/nodes`, signal),
      api(`${base}/connections`, { signal }),
    ]);
    shown = { cluster: own, status, nodes, connections, round: await lastRound(status, signal) };
  });
  let waiting = 0;
  const events = live(ctx, `${base}/events`, {
    isOver: () => shown?.status.status === "terminated",
    onEvent: () => {
      // Many events come at once at the start. One refresh is enough for them.
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 250);
    },
  });

  return () => {
    if (!shown) return [h("h1", { tabindex: "-1" }, "Cluster"), ctx.shown.problem ? null : loading()];
    return [
      head(ctx, shown, refresh),
      figures(shown),
      h("div", { class: "grid wide-first" }, topology(shown), events.view()),
      nodeCard(ctx, shown, refresh),
      trainingCard(shown),
      settings(shown.cluster),
    ];
  };
}

/** @param {ClusterStatus} status @param {AbortSignal} signal @returns {Promise<import("../lib/types.js").Round | null>} */
async function lastRound(status, signal) {
  const newest = status.training_sessions.find((one) => one.epoch > 0);
  if (!newest) return null;
  const training = await api(`/v1/trainings/${newest.training_id}`, { signal });
  const page = await api(`/v1/trainings/${newest.training_id}/rounds?limit=1&cursor=${Math.max(0, training.completed_rounds - 1)}`, { signal });
  return page.items[0] ?? null;
}

/** @param {import("../lib/context.js").Context} ctx @param {Shown} shown @param {() => void} refresh */
function head(ctx, { cluster: own, status, nodes }, refresh) {
  const isOpen = !["terminated", "terminating"].includes(status.status);
  const running = nodes.filter((node) => node.status === "running");
  const connected = status.status !== "initializing";
  return h(
    "div",
    { class: "page-head" },
    h(
      "div",
      null,
      h("p", { class: "crumbs" }, link("/clusters", "Clusters")),
      h("h1", { tabindex: "-1" }, own.name),
      h("div", { class: "facts" }, badge(status.status), id(own.cluster_id), h("span", null, own.topology), h("span", null, "created ", time(own.created_at))),
    ),
    isOpen &&
      h(
        "div",
        { class: "actions" },
        button("Deploy a node", () => actions.deployNode(ctx, own.cluster_id, nodes.some((node) => node.role === "aggregator"), refresh), { kind: running.length ? "" : "primary" }),
        button("Upload data", () => openUploads(running, ctx.notify), { disabled: !running.length }),
        button("Connect", () => actions.connect(ctx, own, refresh), { disabled: !running.length, kind: running.length && !connected ? "primary" : "" }),
        button("Train", () => actions.train(own), { disabled: !connected, kind: connected ? "primary" : "" }),
        button("Search", () => actions.search(own), { disabled: !connected }),
        button("Terminate", () => actions.terminate(ctx, own, refresh), { kind: "danger" }),
      ),
  );
}

/** @param {Shown} shown */
function figures({ cluster: own, status, nodes, round }) {
  const running = nodes.filter((node) => node.status === "running").length;
  const newest = status.training_sessions[0];
  const sent = round?.links.reduce((sum, one) => sum + one.bytes, 0) ?? null;
  return card(
    null,
    {},
    stats(
      stat("Running nodes", number(running), `of ${nodes.filter((node) => node.status !== "terminated").length}`),
      stat("Newest validation accuracy", percent(newest?.metrics.validation_accuracy ?? null)),
      stat("Bytes in the last round", bytes(sent)),
      stat("Time left", newest && newest.remaining_seconds ? seconds(newest.remaining_seconds) : "–"),
      stat("Cost", usd(status.cost_usd), own.budget_usd === null ? "no budget" : `of ${usd(own.budget_usd)}`),
    ),
    own.budget_usd === null ? null : meter(status.cost_usd, own.budget_usd, "Budget"),
  );
}

/** @param {Shown} shown */
function topology({ cluster: own, nodes, connections, round }) {
  const rejected = new Set(Object.entries(round?.workers ?? {}).filter(([, worker]) => worker.state === "rejected").map(([node]) => node));
  const seen = nodes.map((node) => ({ ...node, flagged: rejected.has(node.node_id) || (node.rejected_updates?.count ?? 0) > 0, aggregates: node.acts_as_aggregator }));
  const picture = graph({ nodes: seen, connections, links: round?.links ?? [] });
  return card(
    "Topology",
    { note: connections.length ? `${own.topology}${round ? `, with the transfers of round ${round.round}` : ""}` : "not connected yet" },
    picture ?? empty("No node runs.", "Deploy workers and an aggregator. Each gets a sandbox of its own."),
  );
}

/** @param {import("../lib/context.js").Context} ctx @param {Shown} shown @param {() => void} refresh */
function nodeCard(ctx, { nodes }, refresh) {
  return card(
    "Nodes",
    {},
    nodes.length
      ? table(
          "Nodes of the cluster",
          [
            { name: "Node", wide: true, of: (node) => (node.sandbox_id ? link(`/sandboxes/${node.node_id}`, node.node_id) : id(node.node_id)) },
            { name: "Role", of: (node) => (node.acts_as_aggregator ? `${node.role}, aggregates` : node.role) },
            { name: "Status", of: (node) => [badge(node.status), node.error ? h("small", { class: "reason" }, node.error.detail) : null] },
            { name: "Model", of: (node) => node.model },
            { name: "CPU", number: true, of: (node) => number(node.resources?.cpu_cores) },
            { name: "Memory", number: true, of: (node) => (node.resources?.memory_gb ? `${node.resources.memory_gb} GiB` : "–") },
            { name: "Autonomy", number: true, of: (node) => node.autonomy_level.toFixed(1) },
            { name: "Rejected", number: true, of: (node) => (node.rejected_updates ? h("span", { title: node.rejected_updates.last_reason }, number(node.rejected_updates.count)) : "0") },
            { name: "Action", of: (node) => (["terminated", "terminating"].includes(node.status) ? null : h("button", { type: "button", class: "small", "aria-label": `Remove ${node.node_id}`, onclick: () => actions.removeNode(ctx, node, refresh) }, "Remove")) },
          ],
          nodes,
        )
      : empty("No node was deployed.", "A training needs at least one worker and one aggregator (parameter server)."),
  );
}

/** @param {Shown} shown */
function trainingCard({ status }) {
  return card(
    "Trainings",
    {},
    status.training_sessions.length
      ? table(
          "Trainings of the cluster, the newest first",
          [
            { name: "Training", wide: true, of: (one) => link(`/trainings/${one.training_id}`, one.training_id) },
            { name: "Status", of: (one) => badge(one.status) },
            { name: "Epoch", number: true, of: (one) => `${one.epoch} / ${one.total_epochs}` },
            { name: "Loss", number: true, of: (one) => (one.metrics.global_loss === null ? "–" : one.metrics.global_loss.toFixed(3)) },
            { name: "Validation", number: true, of: (one) => percent(one.metrics.validation_accuracy) },
            { name: "Took", number: true, of: (one) => seconds(one.elapsed_seconds) },
            { name: "Cost", number: true, of: (one) => usd(one.cost_usd) },
          ],
          status.training_sessions,
        )
      : empty("Nothing was trained here yet.", "Connect the nodes, upload data to them and start a training."),
  );
}

/** @param {import("../lib/types.js").Cluster} own */
function settings(own) {
  const idle = own.idle_timeout_minutes;
  const pairs = [
    ["Architecture", own.config.architecture],
    ["Consensus", own.config.consensus],
    ["Nodes decide by themselves", own.config.daa_enabled ? "yes, as far as their autonomy allows" : "no"],
    ["ONNX graphs", own.config.wasm_optimization ? "yes" : "no"],
    ["Ends when idle", idle === null ? "after the deployment's time" : idle === 0 ? "never" : `after ${idle} minutes`],
    ["Budget", own.budget_usd === null ? "no limit" : usd(own.budget_usd)],
  ];
  return card("Settings", {}, h("dl", { class: "pairs" }, pairs.map(([name, value]) => [h("dt", null, name), h("dd", null, value)])));
}
