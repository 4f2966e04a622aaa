// Try a model: a text, or a labelled file in the aggregator's sandbox.

import { api, curl } from "./api.js";
import { h } from "./dom.js";
import { number, percent } from "./format.js";
import { badge, button, card, curlLine, meter, problem, stat, stats, table } from "./parts.js";

/** @typedef {import("./types.js").Prediction} Prediction */

const WAIT_S = 60;
const MOST_VOTED = 1000;
const AGGREGATIONS = ["global", "ensemble", "majority", "weighted", "mean"];

/**
 * @param {import("./context.js").Context} ctx
 * @param {{cluster_id: string, training_id: string}} training
 */
export function tryIt(ctx, training) {
  const own = { text: "", path: "/data/test.json", mode: "text", aggregation: "ensemble", busy: false, answer: /** @type {Prediction | null} */ (null), error: /** @type {unknown} */ (null) };
  const address = `/v1/clusters/${training.cluster_id}/predictions`;
  const body = () => {
    const asked = { aggregation: own.aggregation, training_id: training.training_id };
    if (own.mode !== "text") return { input_data: own.path, ...asked };
    const inputs = own.text.split("\n").filter((line) => line.trim());
    return { inputs, votes: own.aggregation !== "global" && inputs.length <= MOST_VOTED, ...asked };
  };

  async function send() {
    Object.assign(own, { busy: true, error: null });
    ctx.redraw();
    try {
      let answer = await api(address, { method: "POST", body: body(), wait: WAIT_S, signal: ctx.signal });
      while (answer.status === "pending") answer = await api(`/v1/predictions/${answer.prediction_id}`, { signal: ctx.signal }).then(pause);
      own.answer = answer;
    } catch (error) {
      own.error = error;
    }
    own.busy = false;
    ctx.redraw();
  }

  const set = (/** @type {Partial<typeof own>} */ change) => (Object.assign(own, change), ctx.redraw());
  return () =>
    card(
      "Try it",
      { note: "with the newest model of this training" },
      h(
        "form",
        { class: "try", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), send()) },
        h("div", { class: "segments", role: "group", "aria-label": "What to predict" }, [["text", "Texts"], ["file", "A file"]].map(([mode, name]) => h("button", { type: "button", class: "small", "aria-pressed": String(own.mode === mode), onclick: () => set({ mode, answer: null }) }, name))),
        own.mode === "text"
          ? h("div", { class: "field", key: "text" }, h("label", { for: "try-text" }, "Texts, one a line"), h("textarea", { id: "try-text", required: true, value: own.text, oninput: (/** @type {any} */ event) => set({ text: event.target.value }) }))
          : h("div", { class: "field", key: "file" }, h("label", { for: "try-path" }, "Path in the aggregator's sandbox"), h("input", { id: "try-path", required: true, value: own.path, oninput: (/** @type {any} */ event) => set({ path: event.target.value }) })),
        h("div", { class: "field" }, h("label", { for: "try-how" }, "Which models answer"), h("select", { id: "try-how", value: own.aggregation, onchange: (/** @type {any} */ event) => set({ aggregation: event.target.value }) }, AGGREGATIONS.map((one) => h("option", { value: one }, one)))),
        h("div", { class: "actions" }, h("button", { class: "primary", disabled: own.busy }, own.busy ? "Predicting…" : "Predict")),
        curlLine(curl(address, { method: "POST", body: body(), wait: WAIT_S })),
      ),
      problem(own.error ?? (own.answer?.error ? { title: "Failed", message: own.answer.error.detail, code: own.answer.error.code } : null)),
      own.answer?.results ? results(own.answer, own.answer.results) : null,
    );
}

/** @param {any} answer */
const pause = (answer) => new Promise((resolve) => setTimeout(() => resolve(answer), 500));

/** @param {Prediction} answer @param {NonNullable<Prediction["results"]>} found */
function results(answer, found) {
  return h(
    "div",
    { class: "results", role: "status" },
    h("p", { class: "note" }, `${answer.nodes_used} ${answer.nodes_used === 1 ? "node" : "nodes"}, ${answer.inference_time}`),
    found.accuracy === null ? null : stats(stat("Accuracy", percent(found.accuracy)), stat("Precision", percent(found.precision)), stat("Recall", percent(found.recall)), stat("F1", percent(found.f1_score))),
    found.confusion_matrix ? confusion(found.confusion_matrix) : null,
    found.predictions.length
      ? table(
          "Predictions",
          [
            { name: "Text", wide: true, of: (one) => one.text },
            { name: "Label", of: (one) => badge(one.sentiment, "busy") },
            { name: "Confidence", number: true, of: (one) => [percent(one.confidence), meter(one.confidence, 1, "Confidence")] },
            ...(Object.keys(found.votes).length ? [{ name: "Votes", of: votes }] : []),
          ],
          found.predictions.slice(0, 50).map((one, index) => ({ ...one, votes: Object.entries(found.votes).map(([node, all]) => ({ node, ...all[index] })) })),
        )
      : null,
    found.predictions.length > 50 ? h("p", { class: "note" }, `${number(found.predictions.length - 50)} more are in the API's answer.`) : null,
    found.notices?.map((/** @type {string} */ notice) => h("p", { class: "note" }, notice)),
  );
}

/** @param {{votes: {node: string, sentiment?: string, confidence?: number}[]}} one */
const votes = (one) => h("ul", { class: "votes" }, one.votes.map((vote) => h("li", null, h("code", { class: "id" }, vote.node), ` ${vote.sentiment} ${percent(vote.confidence)}`)));

/** @param {{labels: string[], counts: number[][]}} matrix */
function confusion({ labels, counts }) {
  if (labels.length > 12) return h("p", { class: "note" }, `The confusion matrix has ${labels.length} classes; the API's answer has it.`);
  return table(
    "Confusion matrix: rows are true labels, columns predicted ones",
    [{ name: "True label", of: (/** @type {number} */ row) => labels[row] }, ...labels.map((label, column) => ({ name: `as ${label}`, number: true, of: (/** @type {number} */ row) => number(counts[row][column]) }))],
    labels.map((_, index) => index),
  );
}
