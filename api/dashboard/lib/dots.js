// The metric of each trial over one option.

import { h } from "./dom.js";
import { figure, words } from "./format.js";
import { empty } from "./parts.js";

const WIDTH = 420;
const HEIGHT = 200;
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 16, 12, 30];

/**
 * Values are placed in their order, one step apart: searched values often differ by powers of ten.
 * @param {string} name
 * @param {string} metric
 * @param {{x: any, y: number, best: boolean, stopped: boolean}[]} points
 */
export function dots(name, metric, points) {
  if (!points.length) return empty("No trial has a figure yet.", "Points appear as trainings complete rounds.");
  const values = [...new Set(points.map((one) => one.x))].sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))));
  const low = Math.min(...points.map((one) => one.y));
  const high = Math.max(...points.map((one) => one.y));
  const x = (/** @type {any} */ value) => LEFT + ((values.indexOf(value) + 0.5) / values.length) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ value) => HEIGHT - BOTTOM - (high > low ? (value - low) / (high - low) : 0.5) * (HEIGHT - TOP - BOTTOM);
  const every = Math.ceil(values.length / 6);
  return h(
    "div",
    { class: "chart dots" },
    h(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${words(metric)} over ${words(name)}: ${points.map((one) => `${one.x}: ${figure(one.y)}`).join(", ")}` },
      [low, high].map((tick) => [h("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }), h("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, figure(tick))]),
      values.map((value, index) => (index % every ? null : h("text", { x: x(value), y: HEIGHT - 8, "text-anchor": "middle" }, String(value)))),
      points.map((one) => h("circle", { cx: x(one.x), cy: y(one.y), r: one.best ? 7 : 5, fill: one.stopped ? "var(--surface)" : one.best ? "var(--c2)" : "var(--c1)", stroke: one.best ? "var(--c2)" : "var(--c1)", "stroke-width": 2 }, h("title", null, `${one.x}: ${figure(one.y)}${one.best ? ", the best" : ""}${one.stopped ? ", stopped early" : ""}`))),
    ),
    h("ul", { class: "legend" }, [["trial", "--c1"], ["the best", "--c2"]].map(([text, colour]) => h("li", null, h("i", { class: "block", vars: { "--colour": `var(${colour})` } }), text)), h("li", null, h("i", { class: "block ring", vars: { "--colour": "var(--c1)" } }), "stopped early")),
  );
}
