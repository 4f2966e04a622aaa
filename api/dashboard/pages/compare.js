// Two to eight trainings: curves by epoch, seconds or dollars, and the options in which they differ.

import { api } from "../lib/api.js";
import { lines } from "../lib/charts.js";
import { h } from "../lib/dom.js";
import { figure, number, percent, seconds, usd, words } from "../lib/format.js";
import { badge, button, card, empty, link, loading, table, time } from "../lib/parts.js";

/** @typedef {import("../lib/types.js").Training} Training */
/** @typedef {import("../lib/types.js").Curves} Curves */
/** @typedef {{training: Training, curves: Curves}} Shown */
/** @typedef {"epochs" | "seconds" | "cost_usd"} Axis */
/** @typedef {"validation_accuracy" | "global_accuracy" | "global_loss" | "validation_loss"} Metric */

const MOST = 8;
const AXES = /** @type {Record<Axis, {name: string, text: (value: number) => string}>} */ ({
  epochs: { name: "epoch", text: String },
  seconds: { name: "seconds", text: seconds },
  cost_usd: { name: "dollars", text: usd },
});
const METRICS = /** @type {Record<Metric, string>} */ ({ validation_accuracy: "Validation accuracy", global_accuracy: "Training accuracy", global_loss: "Training loss", validation_loss: "Validation loss" });
const DASHES = [null, "6 3", "2 3", "8 3 2 3", null, "6 3", "2 3", "8 3 2 3"];

/** @param {import("../lib/context.js").Context} ctx */
export default function compare(ctx) {
  const chosen = (ctx.query.get("ids") ?? "").split(",").filter(Boolean).slice(0, MOST);
  const own = { axis: /** @type {Axis} */ ("epochs"), metric: /** @type {Metric} */ ("validation_accuracy") };
  /** @type {Training[] | null} */
  let listed = null;
  /** @type {Shown[] | null} */
  let shown = null;
  ctx.every(6000, async (signal) => {
    listed = (await api("/v1/trainings?limit=50", { signal })).items;
    shown = await Promise.all(chosen.map(async (one) => ({ training: await api(`/v1/trainings/${one}`, { signal }), curves: await api(`/v1/trainings/${one}/curves`, { signal }) })));
  });

  const toggle = (/** @type {string} */ one) => {
    const ids = chosen.includes(one) ? chosen.filter((other) => other !== one) : [...chosen, one];
    location.hash = `/compare?ids=${ids.join(",")}`;
  };
  const choice = (/** @type {"axis" | "metric"} */ name, /** @type {string} */ label, /** @type {[string, string][]} */ choices) =>
    h("div", { class: "field inline" }, h("label", { for: `compare-${name}` }, label), h("select", { id: `compare-${name}`, value: own[name], onchange: (/** @type {any} */ event) => (Object.assign(own, { [name]: event.target.value }), ctx.redraw()) }, choices.map(([value, text]) => h("option", { value }, text))));

  return () => {
    if (!listed || !shown) return [h("h1", { tabindex: "-1" }, "Compare"), ctx.shown.problem ? null : loading()];
    return [
      h("div", { class: "page-head" }, h("div", null, h("h1", { tabindex: "-1" }, "Compare"), h("p", { class: "facts" }, "Two to eight trainings side by side"))),
      shown.length >= 2
        ? [
            card(
              METRICS[own.metric],
              { actions: [choice("metric", "Figure", Object.entries(METRICS)), choice("axis", "by", Object.entries(AXES).map(([value, axis]) => /** @type {[string, string]} */ ([value, axis.name])))] },
              lines(chart(shown, own.axis, own.metric)),
            ),
            card("Results", {}, results(shown)),
            card("Options that differ", {}, differences(shown)),
          ]
        : card(null, {}, empty("Choose two to eight trainings.", "Their curves and the options in which they differ appear here.")),
      card(
        "Trainings",
        { note: `${chosen.length} of at most ${MOST} chosen` },
        listed.length
          ? table(
              "Trainings to choose from, the newest first",
              [
                { name: "Training", wide: true, of: (one) => link(`/trainings/${one.training_id}`, one.training_id) },
                { name: "Status", of: (one) => badge(one.status) },
                { name: "Strategy", of: (one) => one.config.strategy },
                { name: "Rounds", number: true, of: (one) => number(one.completed_rounds) },
                { name: "Created", of: (one) => time(one.created_at) },
                { name: "Compare", of: (one) => h("button", { type: "button", class: "small", "aria-pressed": String(chosen.includes(one.training_id)), "aria-label": `Compare ${one.training_id}`, disabled: !chosen.includes(one.training_id) && chosen.length === MOST, onclick: () => toggle(one.training_id) }, chosen.includes(one.training_id) ? "Remove" : "Add") },
              ],
              listed,
            )
          : empty("There is no training yet.", "Start one in a cluster.", link("/clusters", "Clusters")),
      ),
      chosen.length ? h("div", { class: "actions" }, button("Choose none", () => (location.hash = "/compare"))) : null,
    ];
  };
}

/** @param {Shown[]} shown @param {Axis} axis @param {Metric} metric @returns {import("../lib/charts.js").Lines} */
function chart(shown, axis, metric) {
  return {
    title: `${METRICS[metric]} by ${AXES[axis].name}`,
    xName: AXES[axis].name,
    xText: axis === "epochs" ? undefined : AXES[axis].text,
    yText: metric.endsWith("accuracy") ? (value) => `${(value * 100).toFixed(1)} %` : figure,
    height: 320,
    lines: shown.map(({ training, curves }, index) => ({
      name: training.training_id,
      colour: `--c${index + 1}`,
      dash: DASHES[index] ?? undefined,
      points: along(curves, axis).map((/** @type {number} */ x, /** @type {number} */ at) => /** @type {[number, number | null]} */ ([x, curves[metric][at]])),
    })),
  };
}

/** Seconds and dollars are sums over the rounds so far. @param {Curves} curves @param {Axis} axis @returns {number[]} */
function along(curves, axis) {
  if (axis === "epochs") return curves.epochs;
  let sum = 0;
  return curves[axis].map((/** @type {number | null} */ value) => (sum += value ?? 0));
}

/** @param {Shown[]} shown */
function results(shown) {
  const total = (/** @type {(number | null)[]} */ values) => values.reduce((/** @type {number} */ sum, value) => sum + (value ?? 0), 0);
  return table(
    "Results of the trainings",
    [
      { name: "Training", wide: true, of: ({ training }) => link(`/trainings/${training.training_id}`, training.training_id) },
      { name: "Status", of: ({ training }) => badge(training.status) },
      { name: "Epochs", number: true, of: ({ curves }) => number(curves.epochs.at(-1) ?? 0) },
      { name: "Validation", number: true, of: ({ curves }) => percent(curves.validation_accuracy.at(-1) ?? null) },
      { name: "Loss", number: true, of: ({ curves }) => figure(curves.global_loss.at(-1) ?? null) },
      { name: "Rounds took", number: true, of: ({ curves }) => seconds(total(curves.seconds)) },
      { name: "Rounds cost", number: true, of: ({ curves }) => usd(total(curves.cost_usd)) },
    ],
    shown,
  );
}

/** @param {Shown[]} shown */
function differences(shown) {
  const all = shown.map(({ training }) => /** @type {Record<string, unknown>} */ ({ ...training.config, workers: training.workers.length, model: training.model }));
  const names = Object.keys(all[0]).filter((name) => new Set(all.map((one) => JSON.stringify(one[name] ?? null))).size > 1);
  if (!names.length) return empty("They have the same options.", "The trainings differ in their data, their cluster or their time alone.");
  return table(
    "Options in which the trainings differ",
    [{ name: "Option", of: (/** @type {string} */ name) => words(name) }, ...shown.map(({ training }, index) => ({ name: training.training_id, of: (/** @type {string} */ name) => text(all[index][name]) }))],
    names,
  );
}

/** @param {unknown} value */
const text = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
