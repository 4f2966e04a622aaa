// All clusters, the newest first.

import { createCluster } from "../lib/actions.js";
import { h } from "../lib/dom.js";
import { usd } from "../lib/format.js";
import { listing } from "../lib/listing.js";
import { pager } from "../lib/pager.js";
import { badge, button, empty, id, link, time } from "../lib/parts.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function clusters(ctx) {
  const pages = pager(ctx, "/v1/clusters", 5000);
  return () => [
    h("div", { class: "page-head" }, h("div", null, h("h1", { tabindex: "-1" }, "Clusters")), h("div", { class: "actions" }, button("Create a cluster", createCluster, { kind: "primary" }))),
    listing(
      ctx,
      pages,
      "Clusters, the newest first",
      [
        { name: "Name", wide: true, of: (one) => link(`/clusters/${one.cluster_id}`, one.name) },
        { name: "Status", of: (one) => badge(one.status) },
        { name: "Topology", of: (one) => one.topology },
        { name: "Network", of: (one) => one.config.architecture },
        { name: "Consensus", of: (one) => one.config.consensus },
        { name: "Budget", number: true, of: (one) => usd(one.budget_usd) },
        { name: "Created", of: (one) => time(one.created_at) },
        { name: "Id", of: (one) => id(one.cluster_id) },
      ],
      empty("There is no cluster yet.", "A cluster is a group of sandboxed workers that train one model together. It costs nothing until nodes run in it.", button("Create a cluster", createCluster)),
    ),
  ];
}
