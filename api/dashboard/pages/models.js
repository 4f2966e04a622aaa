// All exported models, the newest first.

import { h } from "../lib/dom.js";
import { bytes } from "../lib/format.js";
import { pager } from "../lib/pager.js";
import { badge, card, empty, link, loading, table, time } from "../lib/parts.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function models(ctx) {
  const pages = pager(ctx, "/v1/models", 5000);
  return () => [
    h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "Models")),
    card(
      null,
      {},
      !pages.items
        ? ctx.shown.problem ? null : loading()
        : pages.items.length
          ? [
              table(
                "Models, the newest first",
                [
                  { name: "Name", wide: true, of: (one) => link(`/models/${one.model_id}`, one.name) },
                  { name: "Status", of: (one) => badge(one.status) },
                  { name: "Training", of: (one) => link(`/trainings/${one.training_id}`, one.training_id) },
                  { name: "Size", number: true, of: (one) => bytes(one.size) },
                  { name: "Created", of: (one) => time(one.created_at) },
                ],
                pages.items,
              ),
              pages.controls(),
            ]
          : empty("There is no model yet.", "Open a training with a completed round and export its model.", link("/trainings", "Go to the trainings")),
    ),
  ];
}
