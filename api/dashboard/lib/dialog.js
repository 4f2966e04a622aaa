// Actions in a dialog: what happens, the form, the curl line that does the same, and the API's refusal.

import { Problem, api, curl } from "./api.js";
import { draw, h } from "./dom.js";
import { bodyFrom, form } from "./form.js";
import { button, curlLine, loading, problem } from "./parts.js";
import { bodyOf } from "./schema.js";

/** @typedef {import("./dom.js").Loose} Loose */

/**
 * Show a dialog. `view` is drawn again at each call of `redraw`.
 * @param {string} title
 * @param {(own: {close: () => void, redraw: () => void}) => () => Loose} make
 */
export function openDialog(title, make) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", title);
  const close = () => dialog.close();
  const redraw = () => draw(dialog, h("header", null, h("h2", null, title), h("button", { type: "button", class: "small", "aria-label": "Close", onclick: close }, "✕")), view());
  const view = make({ close, redraw });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  redraw();
  dialog.showModal();
}

/**
 * @typedef {object} Action
 * @property {string} title
 * @property {Loose} [text] what the action does
 * @property {string} submit the words on the button
 * @property {boolean} [danger]
 * @property {string} [operation] the operationId whose body the form describes; without it there is no form
 * @property {(body: any) => {path: string, method?: string, body?: any, wait?: number}} request
 * @property {(answer: any) => void} done
 * @property {Record<string, any>} [values] what the form begins with
 * @property {[string, string[]][]} [groups]
 * @property {string[]} [hidden]
 * @property {Record<string, any>} [context]
 */

/** @param {Action} action */
export function openAction(action) {
  openDialog(action.title, ({ close, redraw }) => {
    const values = { ...action.values };
    /** @type {Record<string, string>} */
    let errors = {};
    /** @type {import("./schema.js").Shape | null} */
    let shape = action.operation ? null : { fields: [], exclusions: [] };
    /** @type {unknown} */
    let refusal = null;
    let busy = false;
    if (action.operation)
      bodyOf(action.operation).then(
        (found) => ((shape = found), redraw()),
        (error) => ((refusal = error), redraw()),
      );

    async function send() {
      busy = true;
      refusal = null;
      redraw();
      try {
        const { path, ...call } = action.request(bodyFrom(shape?.fields ?? [], values));
        const answer = await api(path, call);
        close();
        action.done(answer);
      } catch (error) {
        refusal = error;
        errors = error instanceof Problem ? Object.fromEntries(error.errors.map((one) => [one.pointer.slice(1), one.message])) : {};
        busy = false;
        redraw();
      }
    }

    return () => {
      if (!shape) return [problem(refusal), refusal ? null : loading()];
      const entered = preview(shape, values);
      return h(
        "form",
        { onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), send()) },
        h(
          "div",
          { class: "dialog-body", tabindex: "0", role: "group", "aria-label": "Details" },
          action.text ? h("p", null, action.text) : null,
          form({ shape, values, errors, changed: redraw, groups: action.groups, hidden: action.hidden, context: action.context }),
          problem(refusal),
          entered === null ? h("p", { class: "note" }, "The curl line appears when the JSON is complete.") : curlLine(line(action.request(entered))),
        ),
        h("footer", null, button("Cancel", close), h("button", { class: action.danger ? "primary danger" : "primary", disabled: busy }, busy ? "Working…" : action.submit)),
      );
    };
  });
}

/** @param {import("./schema.js").Shape} shape @param {any} values */
function preview(shape, values) {
  try {
    return bodyFrom(shape.fields, values);
  } catch {
    return null;
  }
}

/** @param {{path: string, method?: string, body?: any, wait?: number}} call */
const line = ({ path, ...call }) => curl(path, call);
