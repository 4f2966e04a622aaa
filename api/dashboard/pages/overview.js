// What runs, what it costs, what is wrong, and how much of the quotas is used.

import { all, api } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { number, percent, seconds, usd, words } from "../lib/format.js";
import { quotaCard } from "../lib/quotas.js";
import { badge, card, empty, link, loading, meter, stat, stats, table, time } from "../lib/parts.js";

/** @typedef {import("../lib/types.js").Cluster} Cluster */
/** @typedef {import("../lib/types.js").ClusterStatus} ClusterStatus */
/** @typedef {import("../lib/types.js").Readiness} Readiness */
/** @typedef {{project: import("../lib/types.js").Project, clusters: Cluster[], statuses: ClusterStatus[], ready: Readiness}} Shown */
/** @typedef {ClusterStatus["training_sessions"][number] & {cluster: Cluster}} Session */

const MOST_CLUSTERS = 12;

/** @param {import("../lib/context.js").Context} ctx */
export default function overview(ctx) {
  /** @type {Shown | null} */
  let shown = null;
  ctx.every(4000, async (signal) => {
    const [project, clusters, ready] = await Promise.all([
      api("/v1/project", { signal }),
      all("/v1/clusters", signal, 100),
      readiness(signal),
    ]);
    const open = clusters.filter((one) => !["terminated"].includes(one.status)).slice(0, MOST_CLUSTERS);
    const statuses = await Promise.all(open.map((one) => api(`/v1/clusters/${one.cluster_id}/status`, { signal })));
    shown = { project, clusters: open, statuses, ready };
  });

  return () => [
    h("div", { class: "page-head" }, h("div", null, h("h1", { tabindex: "-1" }, "Overview"), shown && h("p", { class: "facts" }, `Project ${shown.project.name}`)), h("div", { class: "actions" }, link("/clusters", "All clusters"))),
    shown ? content(shown) : ctx.shown.problem ? null : loading(),
  ];
}

/** @param {AbortSignal} signal */
async function readiness(signal) {
  const answer = await fetch(new URL("../../../readyz", import.meta.url), { signal });
  return answer.json();
}

/** @param {Shown} shown */
function content({ project, clusters, statuses, ready }) {
  const sessions = statuses.flatMap((status, index) =>
    status.training_sessions.filter((one) => ["pending", "training", "stopping"].includes(one.status)).map((one) => ({ ...one, cluster: clusters[index] })),
  );
  const nodes = statuses.flatMap((status) => status.nodes);
  const running = nodes.filter((node) => node.status === "running").length;
  const cost = statuses.reduce((sum, status) => sum + status.cost_usd, 0);
  return [
    card(
      null,
      {},
      stats(
        stat("Open clusters", number(project.quotas.clusters.used)),
        stat("Running nodes", number(running), nodes.length > running ? `of ${nodes.length}` : null),
        stat("Trainings now", number(sessions.length)),
        stat("Open clusters cost", usd(cost), "so far"),
        stat("Spent in all", usd(project.quotas.spend_usd.used), project.quotas.spend_usd.limit === null ? "no limit" : `of ${usd(project.quotas.spend_usd.limit)}`),
      ),
    ),
    h("div", { class: "grid" }, trainings(sessions), wrong(clusters, statuses, ready)),
    clusterCard(clusters, statuses),
    h("div", { class: "grid" }, quotaCard(project.quotas), parts(ready)),
  ];
}

/** @param {Session[]} sessions */
function trainings(sessions) {
  return card(
    "Running trainings",
    {},
    sessions.length
      ? h(
          "ul",
          { class: "rows" },
          sessions.map((one) =>
            h(
              "li",
              { key: one.training_id },
              h("p", { class: "row-head" }, link(`/trainings/${one.training_id}`, one.training_id), badge(one.status)),
              meter(one.epoch, one.total_epochs, `Epochs of ${one.training_id}`),
              h("p", { class: "note" }, `${one.cluster.name} · epoch ${one.epoch} of ${one.total_epochs} · validation ${percent(one.metrics.validation_accuracy)} · ${one.remaining_seconds === null ? "time left not known yet" : `${seconds(one.remaining_seconds)} left`} · ${usd(one.cost_usd)}`),
            ),
          ),
        )
      : empty("No training runs.", "Open a connected cluster to start one.", link("/clusters", "Clusters")),
  );
}

/** @param {Cluster[]} clusters @param {ClusterStatus[]} statuses @param {Readiness} ready */
function wrong(clusters, statuses, ready) {
  const found = [];
  for (const [name, part] of partsOf(ready)) if (!part.ok || part.warning) found.push({ title: words(name), text: part.detail ?? part.warning, href: null });
  statuses.forEach((status, index) => {
    const at = `/clusters/${status.cluster_id}`;
    for (const node of status.nodes) if (["lost", "failed"].includes(node.status)) found.push({ title: `${clusters[index].name}: ${node.node_id} is ${node.status}`, text: "Open the cluster for the reason.", href: at });
    for (const one of status.training_sessions) {
      for (const flag of ("red_flags" in one && one.red_flags) || []) if (["pending", "training"].includes(one.status)) found.push({ title: flag.message, text: flag.suggestion, href: `/trainings/${one.training_id}` });
    }
    const newest = status.training_sessions[0];
    if (newest && ["failed", "refused"].includes(newest.status)) found.push({ title: `${clusters[index].name}: the newest training ${newest.status === "failed" ? "failed" : "was refused"}`, text: newest.error?.detail, href: `/trainings/${newest.training_id}` });
    const budget = clusters[index].budget_usd;
    if (budget && status.cost_usd >= 0.8 * budget) found.push({ title: `${clusters[index].name}: ${percent(status.cost_usd / budget)} of the budget is spent`, text: null, href: at });
  });
  return card(
    "What is wrong",
    {},
    found.length
      ? found.map((one) => h("div", { class: "flag" }, h("p", null, h("strong", null, one.title)), one.text ? h("p", null, one.text) : null, one.href ? h("p", null, link(one.href, "Look at it")) : null))
      : empty("Nothing is wrong.", "Lost nodes, red flags, failed trainings and spent budgets appear here."),
  );
}

/** @param {Cluster[]} clusters @param {ClusterStatus[]} statuses */
function clusterCard(clusters, statuses) {
  const rows = clusters.map((cluster, index) => ({ cluster, status: statuses[index] }));
  return card(
    "Open clusters",
    {},
    rows.length
      ? table(
          "Open clusters",
          [
            { name: "Cluster", wide: true, of: ({ cluster }) => link(`/clusters/${cluster.cluster_id}`, cluster.name) },
            { name: "Status", of: ({ status }) => badge(status.status) },
            { name: "Topology", of: ({ cluster }) => cluster.topology },
            { name: "Nodes", number: true, of: ({ status }) => status.nodes.filter((node) => node.status === "running").length },
            { name: "Trainings", number: true, of: ({ status }) => status.training_sessions.length },
            { name: "Cost", number: true, of: ({ status }) => usd(status.cost_usd) },
            { name: "Created", of: ({ cluster }) => time(cluster.created_at) },
          ],
          rows,
        )
      : empty("There is no open cluster.", "Create one, deploy nodes into it, connect them and train.", link("/clusters", "Go to the clusters")),
  );
}

/** @param {Readiness} ready */
function parts(ready) {
  return card(
    "Service",
    { actions: badge(ready.ready ? "ready" : "not ready", ready.ready ? "good" : "bad") },
    h(
      "ul",
      { class: "rows" },
      partsOf(ready)
        .map(([name, part]) => h("li", null, h("p", { class: "row-head" }, words(name), badge(part.ok ? "ok" : "down", part.ok ? "good" : "bad")), part.detail || part.warning ? h("p", { class: "note" }, part.detail ?? part.warning) : null)),
    ),
  );
}

/** The parts of the service by name. @param {Readiness} ready */
const partsOf = (ready) => /** @type {[string, {ok: boolean, detail?: string | null, warning?: string | null}][]} */ (Object.entries(ready).filter(([, part]) => part && typeof part === "object"));
