// All exported models, the newest first.

import { h } from "../lib/dom.js";
import { bytes } from "../lib/format.js";
import { listing } from "../lib/listing.js";
import { pager } from "../lib/pager.js";
import { badge, empty, link, time } from "../lib/parts.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function models(ctx) {
  const pages = pager(ctx, "/v1/models", 5000);
  return () => [
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Models")),
    listing(
      ctx,
      pages,
      "Models, the newest first",
      [
        { name: "Name", wide: true, of: (one) => link(`/models/${one.model_id}`, one.name) },
        { name: "Status", of: (one) => badge(one.status) },
        { name: "Training", of: (one) => link(`/trainings/${one.training_id}`, one.training_id) },
        { name: "Size", number: true, of: (one) => bytes(one.size) },
        { name: "Created", of: (one) => time(one.created_at) },
      ],
      empty("There is no model yet.", "Open a training with a completed round and export its model.", link("/trainings", "Go to the trainings")),
    ),
  ];
}
