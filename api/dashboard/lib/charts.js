// Charts as elements of their own: <fn-lines> for curves, <fn-bars> for stacked bars.
// Each draws itself to the width that it has, and tells the figures under the pointer or the arrow keys.

import { draw, h } from "./dom.js";
import { figure } from "./format.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {[number, number | null][]} points
 * @property {string} colour a custom property of the style sheet
 * @property {boolean} [thin]
 * @property {boolean} [strong]
 * @property {string} [dash]
 */
/**
 * @typedef {object} Lines
 * @property {string} title is read to people who cannot see the chart
 * @property {Line[]} lines
 * @property {string} xName
 * @property {(x: number) => string} [xText]
 * @property {(y: number) => string} [yText]
 * @property {[number, number]} [yRange]
 * @property {number} [height]
 */

const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 26;
const MOST_NAMED = 9;

/** Common parts: the width, the cursor and its keys. */
export class Chart extends HTMLElement {
  /** @type {any} */ #data = null;
  #width = 0;
  #planned = false;
  /** @type {number | null} */ cursor = null;
  #observer = new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width !== this.#width) {
      this.#width = width;
      this.plan();
    }
  });

  connectedCallback() {
    this.classList.add("chart");
    this.#observer.observe(this);
  }

  disconnectedCallback() {
    this.#observer.disconnect();
  }

  set data(data) {
    if (data === this.#data) return;
    this.#data = data;
    this.plan();
  }

  get data() {
    return this.#data;
  }

  plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      if (this.#width && this.#data) draw(this, this.view(this.#data, this.#width));
    });
  }

  /** @param {any} _data @param {number} _width @returns {import("./dom.js").Loose} */
  view(_data, _width) {
    return null;
  }

  /** @param {number} count @param {(event: PointerEvent, width: number) => number} nearest */
  cursorProps(count, nearest) {
    return {
      tabindex: "0",
      role: "group",
      onpointermove: (/** @type {PointerEvent} */ event) => this.moveTo(nearest(event, this.#width)),
      onpointerleave: () => this.moveTo(null),
      onblur: () => this.moveTo(null),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const step = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1 })[event.key];
        if (!step || !count) return;
        event.preventDefault();
        this.moveTo(Math.min(count - 1, Math.max(0, (this.cursor ?? (step > 0 ? -1 : count)) + step)));
      },
    };
  }

  /** @param {number | null} index */
  moveTo(index) {
    if (index === this.cursor) return;
    this.cursor = index;
    this.plan();
  }
}

/** @param {number} low @param {number} high @param {number} count @returns {number[]} round values that cover the range */
function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? rough;
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

/**
 * @param {[number, number | null][]} points
 * @param {(x: number) => number} x
 * @param {(y: number) => number} y
 * @param {number} most points that are drawn: more than pixels cannot be seen
 */
function path(points, x, y, most) {
  const step = Math.max(1, Math.ceil(points.length / most));
  let text = "";
  let pen = "M";
  for (let index = 0; index < points.length; index += step) {
    const [at, value] = points[index + step >= points.length ? points.length - 1 : index];
    if (value === null) pen = "M";
    else {
      text += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
  }
  return text;
}

class LinesChart extends Chart {
  /** @param {Lines} data @param {number} width */
  view(data, width) {
    const height = data.height ?? 220;
    const used = data.lines.filter((line) => line.points.some(([, y]) => y !== null));
    const named = used.filter((line) => !line.thin).slice(0, MOST_NAMED);
    // Thin lines are many and share their x with the named ones.
    const xs = [...new Set((named.length ? named : used).flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
    const [low, high] = data.yRange ?? spread(used);
    const [first, last] = [xs[0] ?? 0, xs.at(-1) ?? 1];
    const x = (/** @type {number} */ at) => LEFT + (last > first ? ((at - first) / (last - first)) * (width - LEFT - RIGHT) : (width - LEFT - RIGHT) / 2);
    const y = (/** @type {number} */ value) => height - BOTTOM - ((value - low) / (high - low || 1)) * (height - TOP - BOTTOM);
    const xText = data.xText ?? String;
    const yText = data.yText ?? figure;
    const at = this.cursor === null ? null : xs[Math.min(this.cursor, xs.length - 1)];
    const nearest = (/** @type {PointerEvent} */ event, /** @type {number} */ wide) => {
      const box = this.getBoundingClientRect();
      const wanted = first + ((event.clientX - box.left - LEFT) / (wide - LEFT - RIGHT)) * (last - first);
      let best = 0;
      xs.forEach((one, index) => {
        if (Math.abs(one - wanted) < Math.abs(xs[best] - wanted)) best = index;
      });
      return best;
    };
    return [
      h(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, height, "aria-label": `${data.title}. ${summary(named, yText)}`, ...this.cursorProps(xs.length, nearest) },
        ticks(low, high, 4).map((tick) => [
          h("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
          h("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, yText(tick)),
        ]),
        ticks(first, last, Math.max(2, Math.floor(width / 64)))
          .filter((tick) => data.xText || Number.isInteger(tick))
          .map((tick) => h("text", { x: x(tick), y: height - 8, "text-anchor": "middle" }, xText(tick))),
        used.map((line) => [
          h("path", { class: line.thin ? "line thin" : line.strong ? "line strong" : "line", stroke: `var(${line.colour})`, "stroke-dasharray": line.dash ?? null, d: path(line.points, x, y, line.thin ? width / 5 : width) }),
          line.points.length < 2 && line.points[0]?.[1] !== null ? h("circle", { cx: x(line.points[0][0]), cy: y(/** @type {number} */ (line.points[0][1])), r: 3, fill: `var(${line.colour})` }) : null,
        ]),
        at === null || at === undefined ? null : h("line", { class: "cursor", x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM }),
        at === null || at === undefined
          ? null
          : named.map((line) => {
              const value = valueAt(line, at);
              return value === null ? null : h("circle", { cx: x(at), cy: y(value), r: 3.5, fill: `var(${line.colour})` });
            }),
      ),
      h(
        "ul",
        { class: "legend", "aria-live": "polite" },
        at === null || at === undefined ? null : h("li", null, h("strong", null, `${data.xName} ${xText(at)}`)),
        named.map((line) => {
          const value = at === null || at === undefined ? lastValue(line) : valueAt(line, at);
          return h("li", null, h("i", { vars: { "--colour": `var(${line.colour})` } }), line.name, " ", h("strong", null, value === null ? "–" : yText(value)));
        }),
      ),
    ];
  }
}

/** @param {Line} line @param {number} at */
const valueAt = (line, at) => line.points.find(([x]) => x === at)?.[1] ?? null;
/** @param {Line} line */
const lastValue = (line) => line.points.findLast(([, y]) => y !== null)?.[1] ?? null;
/** @param {Line[]} lines @param {(y: number) => string} text */
const summary = (lines, text) => lines.map((line) => `${line.name}: ${lastValue(line) === null ? "none" : text(/** @type {number} */ (lastValue(line)))}`).join(", ");

/** The range of all figures, with some room. @param {Line[]} lines @returns {[number, number]} */
function spread(lines) {
  let low = Infinity;
  let high = -Infinity;
  for (const line of lines)
    for (const [, value] of line.points)
      if (value !== null) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/**
 * @typedef {object} Bars
 * @property {string} title
 * @property {string} xName
 * @property {{name: string, colour: string}[]} parts
 * @property {{x: number, values: (number | null)[]}[]} bars
 * @property {(y: number) => string} yText
 */

class BarsChart extends Chart {
  /** @param {Bars} data @param {number} width */
  view(data, width) {
    const height = 200;
    const shown = data.bars.slice(-Math.max(1, Math.floor((width - LEFT - RIGHT) / 6)));
    const high = Math.max(1e-9, ...shown.map((bar) => bar.values.reduce((/** @type {number} */ sum, value) => sum + (value ?? 0), 0)));
    const step = (width - LEFT - RIGHT) / Math.max(shown.length, 8);
    const y = (/** @type {number} */ value) => height - BOTTOM - (value / high) * (height - TOP - BOTTOM);
    const at = this.cursor === null ? null : shown[Math.min(this.cursor, shown.length - 1)];
    const told = at ?? shown.at(-1);
    const nearest = (/** @type {PointerEvent} */ event) =>
      Math.max(0, Math.min(shown.length - 1, Math.floor((event.clientX - this.getBoundingClientRect().left - LEFT) / step)));
    const every = Math.ceil(44 / step);
    return [
      h(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, height, "aria-label": data.title, ...this.cursorProps(shown.length, nearest) },
        ticks(0, high, 3).map((tick) => [
          h("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
          h("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, data.yText(tick)),
        ]),
        shown.map((bar, index) => {
          let base = 0;
          return h(
            "g",
            { opacity: at && bar !== at ? "0.55" : null },
            bar.values.map((value, part) => {
              const from = base;
              base += value ?? 0;
              return h("rect", { x: LEFT + index * step + step * 0.12, width: step * 0.76, y: y(base), height: Math.max(0, y(from) - y(base)), fill: `var(${data.parts[part].colour})` });
            }),
            index % every === 0 ? h("text", { x: LEFT + (index + 0.5) * step, y: height - 8, "text-anchor": "middle" }, String(bar.x)) : null,
          );
        }),
      ),
      h(
        "ul",
        { class: "legend", "aria-live": "polite" },
        told ? h("li", null, h("strong", null, `${data.xName} ${told.x}`)) : null,
        data.parts.map((part, index) => h("li", null, h("i", { class: "block", vars: { "--colour": `var(${part.colour})` } }), part.name, " ", h("strong", null, told && told.values[index] !== null ? data.yText(/** @type {number} */ (told.values[index])) : "–"))),
      ),
    ];
  }
}

customElements.define("fn-lines", LinesChart);
customElements.define("fn-bars", BarsChart);

/** @param {Lines} data */
export const lines = (data) => h("fn-lines", { data });
/** @param {Bars} data */
export const bars = (data) => h("fn-bars", { data });
