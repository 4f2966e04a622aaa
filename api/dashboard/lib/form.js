// A form for the body of a request, made from its description.

import { h } from "./dom.js";
import { words } from "./format.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {import("./schema.js").Shape} Shape */

/**
 * What the user has entered: text for numbers, texts and JSON; the value itself for the rest. An absent name: nothing.
 * @typedef {Record<string, any>} Values
 */

/**
 * Return the body. What is not entered, or equals the default, is left out.
 * @param {Field[]} fields
 * @param {Values} values
 * @returns {Record<string, any>}
 */
export function bodyFrom(fields, values) {
  /** @type {Record<string, any>} */
  const body = {};
  for (const field of fields) {
    const value = valueOf(field, values[field.name]);
    if (value !== undefined && (field.required || value !== field.initial)) body[field.name] = value;
  }
  return body;
}

/** @param {Field} field @param {any} entered @returns {any} */
function valueOf(field, entered) {
  if (entered === undefined || entered === "") return field.required && field.initial !== undefined ? field.initial : undefined;
  if (field.kind === "number") return Number(entered);
  if (field.kind === "json") return JSON.parse(entered);
  if (field.kind === "object") return entered === null ? undefined : bodyFrom(field.fields, entered);
  if (field.kind === "choices") return entered.length ? entered : undefined;
  return entered;
}

/**
 * @typedef {object} FormOptions
 * @property {Shape} shape
 * @property {Values} values
 * @property {Record<string, string>} errors by the name of the field
 * @property {() => void} changed
 * @property {[string, string[]][]} [groups] titles and names; fields that no group names come last
 * @property {string[]} [hidden]
 * @property {Record<string, any>} [context] further options that exclude some of these, for example the consensus
 */

/** @param {FormOptions} options */
export function form(options) {
  const { shape, groups, hidden = [] } = options;
  const shown = shape.fields.filter((field) => !hidden.includes(field.name));
  if (!groups) return shown.map((field) => control(field, options.values, "", options));
  const named = new Set(groups.flatMap(([, names]) => names));
  const rest = shown.filter((field) => !named.has(field.name)).map((field) => field.name);
  return [...groups, ...(rest.length ? [/** @type {[string, string[]]} */ (["Other", rest])] : [])].map(([title, names], index) => {
    const own = names.flatMap((name) => shown.filter((field) => field.name === name));
    const given = own.filter((field) => name(options.values[field.name])).length;
    const faulty = own.some((field) => options.errors[field.name]);
    return h(
      "details",
      { class: "group", key: title, ref: (/** @type {HTMLDetailsElement} */ element) => (element.open = index === 0 || faulty) },
      h("summary", null, title, given ? h("span", { class: "note" }, ` ${given} set`) : null),
      h("div", { class: "fields" }, own.map((field) => control(field, options.values, "", options))),
    );
  });
}

/** @param {any} value */
const name = (value) => value !== undefined && value !== "" && value !== null;

/** @param {Field} field @param {Values} values @param {string} prefix @param {FormOptions} options @returns {import("./dom.js").VNode} */
function control(field, values, prefix, options) {
  const id = `field-${prefix}${field.name}`;
  const error = options.errors[`${prefix}${field.name}`];
  const clash = prefix ? null : excluded(field, options);
  const notes = [field.help, field.bounds && `${capital(field.bounds)}.`].filter(Boolean).join(" ");
  const described = [notes && `${id}-help`, (error || clash) && `${id}-error`].filter(Boolean).join(" ") || null;
  const set = (/** @type {any} */ value) => {
    values[field.name] = value;
    delete options.errors[`${prefix}${field.name}`];
    options.changed();
  };
  const common = { id, "aria-describedby": described, "aria-invalid": error ? "true" : null };
  const label = h("label", { for: id }, words(field.name), field.required ? h("span", { class: "quiet" }, " (required)") : null);
  const below = [
    notes ? h("p", { class: "help", id: `${id}-help` }, capital(notes)) : null,
    error || clash ? h("p", { class: "field-error", id: `${id}-error` }, error ?? clash) : null,
  ];
  if (field.kind === "boolean" && !field.nullable)
    return h("div", { class: "field check" }, h("div", null, h("input", { ...common, type: "checkbox", checked: values[field.name] ?? field.initial ?? false, onchange: (/** @type {any} */ event) => set(event.target.checked) }), label), below);
  if (field.kind === "choices" || field.kind === "object")
    return h("fieldset", { class: "field", id, "aria-describedby": described }, h("legend", null, words(field.name)), below, field.kind === "choices" ? boxes(field, values, set, id) : nested(field, values, set, options));
  return h("div", { class: "field" }, label, input(field, values, set, common), below);
}

/** @param {string} text */
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {Field} field @param {Values} values @param {(value: any) => void} set @param {any} common */
function input(field, values, set, common) {
  const entered = values[field.name];
  const initial = field.initial === undefined || field.initial === null ? "" : String(field.initial);
  if (field.kind === "choice" || field.kind === "boolean") {
    const choices = field.kind === "boolean" ? [true, false] : field.choices;
    const none = field.required && field.initial === undefined ? "choose" : initial ? `${initial} (default)` : "default";
    return h(
      "select",
      { ...common, value: entered === undefined ? "" : String(entered), onchange: (/** @type {any} */ event) => set(event.target.value === "" ? undefined : choices.find((one) => String(one) === event.target.value)) },
      h("option", { value: "" }, none),
      choices.filter((one) => String(one) !== initial).map((one) => h("option", { value: String(one) }, String(one))),
    );
  }
  const props = { ...common, value: entered ?? "", placeholder: initial, required: field.required && field.initial === undefined, oninput: (/** @type {any} */ event) => set(event.target.value) };
  if (field.kind === "json") return h("textarea", { ...props, spellcheck: "false", placeholder: "JSON" });
  if (field.kind === "number")
    return h("input", { ...props, type: "number", step: field.schema.type === "integer" ? "1" : "any", min: field.schema.minimum ?? null, max: field.schema.maximum ?? null });
  return h("input", { ...props, type: "text", autocomplete: "off", minlength: field.schema.minLength ?? null, maxlength: field.schema.maxLength ?? null, pattern: htmlPattern(field.schema.pattern) });
}

/** The pattern for the browser's own check; null if HTML's syntax does not have it. @param {string | undefined} pattern */
function htmlPattern(pattern) {
  if (!pattern?.startsWith("^")) return null;
  try {
    new RegExp(pattern, "v");
    return pattern;
  } catch {
    return null;
  }
}

/** @param {Field} field @param {Values} values @param {(value: any) => void} set @param {string} id */
function boxes(field, values, set, id) {
  const chosen = new Set(values[field.name] ?? []);
  return h(
    "div",
    { class: "boxes" },
    field.choices.map((one) =>
      h("label", { class: "box" }, h("input", { type: "checkbox", id: `${id}-${one}`, checked: chosen.has(one), onchange: (/** @type {any} */ event) => set(field.choices.filter((other) => (other === one ? event.target.checked : chosen.has(other)))) }), one),
    ),
  );
}

/** @param {Field} field @param {Values} values @param {(value: any) => void} set @param {FormOptions} options */
function nested(field, values, set, options) {
  const inner = values[field.name];
  const used = inner !== undefined && inner !== null;
  return [
    h("label", { class: "box" }, h("input", { type: "checkbox", id: `field-${field.name}-used`, checked: used, onchange: (/** @type {any} */ event) => set(event.target.checked ? {} : undefined) }), "Use it"),
    used ? h("div", { class: "fields inner" }, field.fields.map((one) => control(one, inner, `${field.name}/`, options))) : null,
  ];
}

/** The reason why a field cannot be used together with another one that is set, or null. @param {Field} field @param {FormOptions} options */
function excluded(field, { shape, values, context = {} }) {
  const isSet = (/** @type {string} */ one) => (one in context ? context[one] : name(values[one]) && values[one] !== shape.fields.find((other) => other.name === one)?.initial);
  if (!isSet(field.name)) return null;
  const rule = shape.exclusions.find(({ options }) => options.includes(field.name) && options.every(isSet));
  if (!rule) return null;
  return `This may not go together with ${rule.options.filter((one) => one !== field.name).map((one) => words(one).toLowerCase()).join(" and ")}: ${rule.reason}.`;
}
