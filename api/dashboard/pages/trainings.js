// All trainings, the newest first.

import { h } from "../lib/dom.js";
import { number, seconds } from "../lib/format.js";
import { listing } from "../lib/listing.js";
import { pager } from "../lib/pager.js";
import { badge, empty, link, time } from "../lib/parts.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function trainings(ctx) {
  const pages = pager(ctx, "/v1/trainings", 4000);
  return () => [
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Trainings")),
    listing(
      ctx,
      pages,
      "Trainings, the newest first",
      [
        { name: "Training", wide: true, of: (one) => link(`/trainings/${one.training_id}`, one.training_id) },
        { name: "Status", of: (one) => badge(one.status) },
        { name: "Strategy", of: (one) => one.config.strategy },
        { name: "Model", of: (one) => one.model },
        { name: "Workers", number: true, of: (one) => number(one.workers.length) },
        { name: "Rounds", number: true, of: (one) => number(one.completed_rounds) },
        { name: "Took", number: true, of: took },
        { name: "Created", of: (one) => time(one.created_at) },
      ],
      empty("There is no training yet.", "Create a cluster, deploy workers and an aggregator, upload data and start a training.", link("/clusters", "Go to the clusters")),
    ),
  ];
}

/** @param {any} one */
function took(one) {
  if (!one.started_at) return seconds(null);
  return seconds((Date.parse(one.finished_at ?? new Date().toISOString()) - Date.parse(one.started_at)) / 1000);
}
