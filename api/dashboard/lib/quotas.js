// The quotas of the project and their use.

import { h } from "./dom.js";
import { bytes, number, usd, words } from "./format.js";
import { card, meter } from "./parts.js";

const QUOTAS = /** @type {Record<string, string>} */ ({ upload_bytes: "Uploaded", executions: "Background executions", spend_usd: "Spending" });

/** @param {Record<string, {used: number, limit: number | null}>} quotas */
export function quotaCard(quotas) {
  const text = (/** @type {string} */ name, /** @type {number} */ value) => (name.endsWith("bytes") ? bytes(value) : name.endsWith("usd") ? usd(value) : number(value));
  return card(
    "Quotas",
    {},
    h(
      "ul",
      { class: "rows" },
      Object.entries(quotas).map(([name, quota]) =>
        h("li", null, h("p", { class: "row-head" }, QUOTAS[name] ?? words(name), h("span", { class: "note" }, quota.limit === null ? `${text(name, quota.used)}, no limit` : `${text(name, quota.used)} of ${text(name, quota.limit)}`)), quota.limit === null ? null : meter(quota.used, quota.limit, QUOTAS[name] ?? words(name))),
      ),
    ),
  );
}
