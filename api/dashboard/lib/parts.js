// The building blocks of the pages: badges, cards, figures, tables, empty states, problems.

import { h } from "./dom.js";
import { exact, relative, words } from "./format.js";

/** @typedef {import("./dom.js").VNode} VNode */
/** @typedef {import("./dom.js").Loose} Loose */

/** @type {Record<string, string>} */
const KINDS = {};
for (const [kind, statuses] of Object.entries({
  good: "running connected completed ok active done ready",
  busy: "training initializing provisioning pending stopping terminating preparing waiting cancelling",
  bad: "failed lost refused rejected unreachable revoked",
  warn: "late declined expired skipped",
}))
  for (const status of statuses.split(" ")) KINDS[status] = kind;

/** @param {string} status @param {string} [kind] */
export function badge(status, kind) {
  return h("span", { class: `badge ${kind ?? KINDS[status] ?? "quiet"}` }, words(status));
}

/** @param {string | null | undefined} value */
export function time(value) {
  if (!value) return h("span", { class: "quiet" }, "–");
  return h("time", { datetime: value, title: exact(value) }, relative(value));
}

/**
 * @param {string | null} title
 * @param {{actions?: Loose, class?: string, note?: Loose}} options
 * @param {...Loose} content
 */
export function card(title, options, ...content) {
  const heading = title ? h("h2", null, title) : null;
  return h(
    "section",
    { class: `card ${options.class ?? ""}` },
    (heading || options.actions) &&
      h("header", null, heading, options.note && h("p", { class: "note" }, options.note), options.actions && h("div", { class: "actions" }, options.actions)),
    content,
  );
}

/** @param {string} label @param {Loose} value @param {Loose} [note] */
export function stat(label, value, note) {
  return h("div", { class: "stat" }, h("dt", null, label), h("dd", null, value, note && h("small", null, note)));
}

/** @param {...Loose} items */
export const stats = (...items) => h("dl", { class: "stats" }, items);

/**
 * A table that becomes a list of small cards on a narrow screen.
 * @template T
 * @param {string} caption is read to people who cannot see the table
 * @param {{name: string, of: (row: T) => Loose, number?: boolean, wide?: boolean}[]} columns
 * @param {T[]} rows
 */
export function table(caption, columns, rows) {
  const style = (/** @type {{number?: boolean, wide?: boolean}} */ column) =>
    [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null;
  return h(
    "table",
    null,
    h("caption", { class: "hidden" }, caption),
    h("thead", null, h("tr", null, columns.map((column) => h("th", { scope: "col", class: style(column) }, column.name)))),
    h(
      "tbody",
      null,
      rows.map((row) => h("tr", null, columns.map((column) => h("td", { class: style(column), "data-label": column.name }, column.of(row))))),
    ),
  );
}

/** @param {string} title @param {Loose} text @param {Loose} [action] */
export function empty(title, text, action) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", null, text), action);
}

/** @param {unknown} error */
export function problem(error) {
  if (!error) return null;
  const known = /** @type {{message?: string, code?: string, title?: string, errors?: {pointer: string, message: string}[]}} */ (error);
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", null, h("strong", null, known.title ?? "Error"), " ", known.message ?? String(error)),
    known.errors?.length ? h("ul", null, known.errors.map((one) => h("li", null, h("code", null, one.pointer), " ", one.message))) : null,
    known.code ? h("p", { class: "code" }, known.code) : null,
  );
}

/**
 * The curl line of an action, folded.
 * @param {string} line
 * @param {boolean} [open]
 */
export function curlLine(line, open = false) {
  return h(
    "details",
    { class: "curl", ref: (/** @type {HTMLDetailsElement} */ element) => (element.open = open) },
    h("summary", null, "The same with curl"),
    h("pre", { tabindex: "0", "aria-label": "curl command" }, line),
    h("button", { type: "button", class: "small", onclick: () => navigator.clipboard?.writeText(line) }, "Copy"),
  );
}

/** @param {string} label @param {() => void} onclick @param {{kind?: string, disabled?: boolean}} [options] */
export function button(label, onclick, { kind = "", disabled = false } = {}) {
  return h("button", { type: "button", class: kind, disabled, onclick }, label);
}

/** @param {string} href @param {...Loose} content */
export const link = (href, ...content) => h("a", { href: `#${href}` }, content);

/** @param {string} value an id, which may break anywhere */
export const id = (value) => h("code", { class: "id" }, value);

/** @param {number | null} part 0..1; null when the size is not known @param {string} label */
export function bar(part, label) {
  return h("progress", { "aria-label": label, max: "1", value: part ?? undefined });
}

/**
 * A bar of use against a limit.
 * @param {number} used
 * @param {number | null} limit
 * @param {string} label
 */
export function meter(used, limit, label) {
  const part = limit ? Math.min(1, used / limit) : 0;
  const kind = part >= 1 ? "bad" : part >= 0.8 ? "warn" : "";
  return h(
    "div",
    { class: `meter ${kind}`, role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(part * 100)) },
    h("span", { vars: { width: `${part * 100}%` } }),
  );
}

export const loading = () => h("p", { class: "loading" }, "Loading…");
