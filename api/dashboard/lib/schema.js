// What a request may hold, as openapi.json describes it.

import { ROOT } from "./api.js";

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {"text" | "number" | "boolean" | "choice" | "choices" | "object" | "json"} kind
 * @property {string} help
 * @property {string} bounds in words, or empty
 * @property {boolean} required
 * @property {boolean} nullable
 * @property {any} initial the default, or undefined
 * @property {any[]} choices
 * @property {Field[]} fields of an object
 * @property {any} schema
 */
/** @typedef {{fields: Field[], exclusions: {options: string[], reason: string}[]}} Shape */

/** @type {Promise<any> | undefined} */
let loaded;

/** @returns {Promise<any>} */
export function openapi() {
  loaded ??= fetch(new URL("openapi.json", ROOT)).then((answer) => answer.json());
  loaded.catch(() => (loaded = undefined));
  return loaded;
}

/**
 * Return the shape of an operation's body.
 * @param {string} operationId
 * @returns {Promise<Shape>}
 */
export async function bodyOf(operationId) {
  const document = await openapi();
  for (const methods of Object.values(document.paths))
    for (const operation of Object.values(methods))
      if (operation.operationId === operationId) {
        const schema = resolve(document, resolve(document, operation.requestBody).content["application/json"].schema);
        return { fields: fieldsOf(document, schema), exclusions: (document.components.schemas[schema["x-exclusions-of"]] ?? schema)["x-exclusions"] ?? [] };
      }
  throw new Error(`openapi.json has no operation ${operationId}`);
}

/** @param {any} document @param {any} schema @returns {any} */
function resolve(document, schema) {
  if (!schema?.$ref) return schema;
  const found = schema.$ref.slice(2).split("/").reduce((/** @type {any} */ part, /** @type {string} */ name) => part[name], document);
  return { ...resolve(document, found), ...schema, $ref: undefined };
}

/** The forms that a value may have. @param {any} document @param {any} own @returns {any[]} */
const formsOf = (document, own) => (Array.isArray(own.type) ? own.type.map((/** @type {string} */ type) => ({ ...own, type })) : (own.anyOf ?? own.oneOf ?? [own]).map((/** @type {any} */ one) => resolve(document, one)));

/** @param {any} document @param {any} schema @returns {Field[]} */
function fieldsOf(document, schema) {
  return Object.entries(schema.properties ?? {}).map(([name, own]) => fieldOf(document, name, own, (schema.required ?? []).includes(name)));
}

/** @param {any} document @param {string} name @param {any} own @param {boolean} required @returns {Field} */
function fieldOf(document, name, own, required) {
  const options = formsOf(document, own);
  const real = options.filter((/** @type {any} */ one) => one.type !== "null");
  const schema = real.length === 1 ? { ...real[0], ...without(own, ["anyOf", "oneOf"]), ...typeOf(resolve(document, real[0])) } : own;
  const full = resolve(document, schema);
  return {
    name,
    help: own.description ?? full.description ?? "",
    bounds: bounds(full),
    required,
    nullable: real.length < options.length,
    initial: own.default,
    choices: full.enum ?? resolve(document, full.items ?? {}).enum ?? [],
    fields: full.properties ? fieldsOf(document, full) : [],
    kind: kindOf(document, full, real.length),
    schema: full,
  };
}

/** @param {any} schema */
const typeOf = (schema) => ({ type: schema.type, enum: schema.enum, properties: schema.properties, items: schema.items, required: schema.required });

/** @param {any} value @param {string[]} names */
const without = (value, names) => Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name) && name !== "$ref"));

/** @param {any} document @param {any} schema @param {number} forms @returns {Field["kind"]} */
function kindOf(document, schema, forms) {
  if (forms > 1) return "json";
  if (schema.enum) return "choice";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "string") return "text";
  if (schema.type === "array" && resolve(document, schema.items)?.enum) return "choices";
  if (schema.properties) return "object";
  return "json";
}

/** @param {any} schema */
function bounds(schema) {
  const low = schema.minimum !== undefined ? `at least ${schema.minimum}` : schema.exclusiveMinimum !== undefined ? `more than ${schema.exclusiveMinimum}` : "";
  const high = schema.maximum !== undefined ? `at most ${schema.maximum.toLocaleString("en-US")}` : schema.exclusiveMaximum !== undefined ? `less than ${schema.exclusiveMaximum}` : "";
  const whole = schema.type === "integer" ? "a whole number" : "";
  return [whole, low, high].filter(Boolean).join(", ");
}
