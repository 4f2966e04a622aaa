// All searches, the newest first.

import { h } from "../lib/dom.js";
import { figure, number, usd } from "../lib/format.js";
import { listing } from "../lib/listing.js";
import { pager } from "../lib/pager.js";
import { badge, empty, link, time } from "../lib/parts.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function searches(ctx) {
  const pages = pager(ctx, "/v1/searches", 5000);
  return () => [
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Searches")),
    listing(
      ctx,
      pages,
      "Searches, the newest first",
      [
        { name: "Search", wide: true, of: (one) => link(`/searches/${one.search_id}`, one.search_id) },
        { name: "Status", of: (one) => badge(one.status) },
        { name: "Method", of: (one) => one.method },
        { name: "Options", of: (one) => Object.keys(one.space).join(", ") },
        { name: "Trials", number: true, of: (one) => number(one.trials.length) },
        { name: "Best", number: true, of: (one) => figure(one.best_metric) },
        { name: "Cost", number: true, of: (one) => usd(one.cost_usd) },
        { name: "Created", of: (one) => time(one.created_at) },
      ],
      empty("There is no search yet.", "A search trains several times with other options and names the best. Start one in a connected cluster.", link("/clusters", "Go to the clusters")),
    ),
  ];
}
