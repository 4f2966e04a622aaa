// All sandboxes, the newest first.

import { h } from "../lib/dom.js";
import { number, seconds } from "../lib/format.js";
import { listing } from "../lib/listing.js";
import { pager } from "../lib/pager.js";
import { badge, empty, link } from "../lib/parts.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function sandboxes(ctx) {
  const running = ctx.query.get("status") !== "all";
  const pages = pager(ctx, running ? "/v1/sandboxes?status=running" : "/v1/sandboxes", 5000);
  return () => [
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Sandboxes"), h("div", { class: "actions" }, running ? link("/sandboxes?status=all", "Show all") : link("/sandboxes", "Show the running ones"))),
    listing(
      ctx,
      pages,
      "Sandboxes",
      [
        { name: "Node", wide: true, of: (one) => link(`/sandboxes/${one.node_id}`, one.node_id) },
        { name: "Status", of: (one) => badge(one.status) },
        { name: "Role", of: (one) => one.role },
        { name: "Template", of: (one) => one.template },
        { name: "CPU", number: true, of: (one) => number(one.resources?.cpu_cores) },
        { name: "Runs for", number: true, of: (one) => seconds(one.uptime_seconds) },
        { name: "Cluster", of: (one) => link(`/clusters/${one.cluster_id}`, one.cluster_id) },
      ],
      empty(running ? "No sandbox runs." : "There is no sandbox yet.", "Deploy a node into a cluster. Each node has a sandbox of its own.", link("/clusters", "Go to the clusters")),
    ),
  ];
}
