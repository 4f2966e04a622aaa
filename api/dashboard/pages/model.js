// One exported model: its card, its files, the training and the data that it came from.

import { api, curl, download } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { bytes, number, percent } from "../lib/format.js";
import { badge, bar, button, card, curlLine, empty, id, link, loading, meter, problem, stat, stats, table, time } from "../lib/parts.js";
import { tryIt } from "../lib/tryit.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function modelPage(ctx) {
  const [modelId] = ctx.params;
  const address = `/v1/models/${modelId}/download`;
  /**
   * @type {{model: import("../lib/types.js").Model, training: import("../lib/types.js").Training, curves: import("../lib/types.js").Curves,
   *   cluster: import("../lib/types.js").Cluster} | null}
   */
  let shown = null;
  /** @type {ReturnType<typeof tryIt> | null} */
  let trying = null;
  const saving = { busy: false, part: /** @type {number | null} */ (null), error: /** @type {unknown} */ (null) };
  ctx.every(3000, async (signal) => {
    const model = await api(`/v1/models/${modelId}`, { signal });
    const [training, curves, cluster] = await Promise.all([api(`/v1/trainings/${model.training_id}`, { signal }), api(`/v1/trainings/${model.training_id}/curves`, { signal }), api(`/v1/clusters/${model.cluster_id}`, { signal })]);
    trying ??= tryIt(ctx, training);
    shown = { model, training, curves, cluster };
  });

  async function save() {
    if (!shown) return;
    Object.assign(saving, { busy: true, part: null, error: null });
    ctx.redraw();
    try {
      await download(address, `${shown.model.name}.tar`, (part) => ((saving.part = part), ctx.redraw()));
      ctx.notify("The model is downloaded.");
    } catch (error) {
      saving.error = error;
    }
    saving.busy = false;
    ctx.redraw();
  }

  return () => {
    if (!shown) return [h("h1", { tabindex: "-1" }, "Model"), ctx.shown.problem ? null : loading()];
    const { model, training, curves, cluster } = shown;
    const last = (/** @type {(number | null)[]} */ values) => values.at(-1) ?? null;
    return [
      h(
        "div",
        { class: "page-head" },
        h("div", null, h("p", { class: "crumbs" }, link("/models", "Models")), h("h1", { tabindex: "-1" }, model.name), h("div", { class: "facts" }, badge(model.status), id(model.model_id), h("span", null, "exported ", time(model.finished_at)))),
        h("div", { class: "actions" }, button(saving.busy ? "Downloading…" : "Download", save, { kind: "primary", disabled: saving.busy || model.status !== "completed" })),
      ),
      saving.busy ? bar(saving.part, "Download") : null,
      problem(saving.error),
      model.error ? problem({ title: "The export failed", message: model.error.detail, code: model.error.code }) : null,
      model.status === "pending" ? card("The export is being made", {}, meter(model.progress ?? 0, 1, "Export")) : null,
      card(null, {}, stats(stat("Size", bytes(model.size)), stat("Validation accuracy", percent(last(curves.validation_accuracy)), "of the training's last round"), stat("Parameters", number(training.parameters)), stat("Classes", number(training.labels?.length ?? null)), stat("Rounds", number(training.completed_rounds)))),
      h(
        "div",
        { class: "grid" },
        card(
          "Where it comes from",
          {},
          h(
            "dl",
            { class: "pairs" },
            [
              ["Training", link(`/trainings/${model.training_id}`, model.training_id)],
              ["Cluster", link(`/clusters/${model.cluster_id}`, cluster.name)],
              ["Data", id(training.config.dataset)],
              ["Network", `${cluster.config.architecture}, ${training.model}`],
              ["Strategy", training.config.strategy],
              ["Workers", number(training.workers.length)],
              ["Classes", training.labels?.join(", ") ?? "–"],
              ["Began from", training.initial_model?.source ?? "new weights"],
              ["Digest", id(model.digest)],
              ["SHA-256 of the archive", model.sha256 ? id(model.sha256) : "–"],
            ].map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
          ),
          curlLine(curl(address, { save: `${model.name}.tar` })),
        ),
        card(
          "Files",
          { note: model.path },
          model.files.length
            ? table("Files of the model", [{ name: "Path", wide: true, of: (one) => id(one.path) }, { name: "Size", number: true, of: (one) => bytes(one.size) }], model.files)
            : empty("There are no files.", model.status === "expired" ? "The retention period is over." : "They appear when the export is completed."),
        ),
      ),
      cluster.status === "terminated" ? empty("The cluster is terminated.", "Its nodes predict no more. Download the model to use it elsewhere.") : trying?.(),
    ];
  };
}
