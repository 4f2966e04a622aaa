// Keys, quotas and the audit log, for admins of the project.

import { api } from "../lib/api.js";
import { openAction, openDialog } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { pager } from "../lib/pager.js";
import { badge, button, card, empty, id, link, loading, table, time } from "../lib/parts.js";
import { quotaCard } from "../lib/quotas.js";

/** @param {import("../lib/context.js").Context} ctx */
export default function admin(ctx) {
  const keys = pager(ctx, "/v1/keys", 8000);
  const audit = pager(ctx, "/v1/audit", 8000);
  /** @type {import("../lib/types.js").Project | null} */
  let project = null;
  ctx.every(10_000, async (signal) => {
    project = await api("/v1/project", { signal });
  });
  const create = () =>
    openAction({
      title: "Create a key",
      text: "The key may do what its scopes say, in this project alone.",
      submit: "Create the key",
      operation: "create_key",
      values: { scopes: ["clusters:read"] },
      request: (body) => ({ path: "/v1/keys", method: "POST", body }),
      done: (made) => (secret(made), keys.refresh()),
    });
  const change = (/** @type {import("../lib/types.js").Key} */ key, /** @type {"rotate" | "revoke"} */ how) =>
    openAction({
      title: how === "rotate" ? `Give ${key.name} a new secret?` : `Revoke ${key.name}?`,
      text: how === "rotate" ? "The old secret ends after the overlap." : "Requests with this key are refused at once. This cannot be undone.",
      submit: how === "rotate" ? "Rotate the key" : "Revoke the key",
      danger: how === "revoke",
      operation: how === "rotate" ? "rotate_key" : undefined,
      request: (body) => (how === "rotate" ? { path: `/v1/keys/${key.key_id}/rotate`, method: "POST", body } : { path: `/v1/keys/${key.key_id}`, method: "DELETE" }),
      done: (answer) => {
        if (how === "rotate") secret(answer);
        else ctx.notify("The key is revoked.");
        keys.refresh();
      },
    });

  return () => [
    h("div", { class: "page-head" }, h("div", null, h("h1", { tabindex: "-1" }, "Keys and audit"), project && h("p", { class: "facts" }, `Project ${project.name}`)), h("div", { class: "actions" }, button("Create a key", create, { kind: "primary" }))),
    ctx.shown.problem ? null : [card("Keys", {}, keyTable(keys, change)), project ? quotaCard(project.quotas) : null, card("Audit log", { note: "who sent which request, and its result" }, auditTable(audit))],
  ];
}

/** @param {any} made */
const secret = (made) =>
  openDialog("The secret of the key", ({ close }) => () => [
    h("div", { class: "dialog-body", tabindex: "0", role: "group", "aria-label": "Details" }, h("p", null, "Copy it now: it cannot be shown again."), h("pre", { tabindex: "0", "aria-label": "Secret" }, made.api_key)),
    h("footer", null, button("Copy", () => navigator.clipboard?.writeText(made.api_key)), button("Done", close, { kind: "primary" })),
  ]);

/** @param {ReturnType<typeof pager>} keys @param {(key: import("../lib/types.js").Key, how: "rotate" | "revoke") => void} change */
function keyTable(keys, change) {
  if (!keys.items) return loading();
  return [
    table(
      "Keys of the project, the newest first",
      [
        { name: "Name", wide: true, of: (one) => one.name },
        { name: "Key", of: (one) => id(`${one.prefix}…`) },
        { name: "Status", of: (one) => badge(one.status.toLowerCase()) },
        { name: "Scopes", of: (one) => (one.node_id ? ["owner of ", link(`/sandboxes/${one.node_id}`, one.node_id)] : one.scopes.join(", ")) },
        { name: "Last used", of: (one) => time(one.last_used_at) },
        { name: "Expires", of: (one) => time(one.expires_at) },
        {
          name: "Action",
          of: (one) =>
            one.status.toLowerCase() === "active"
              ? h("div", { class: "actions" }, h("button", { type: "button", class: "small", "aria-label": `Rotate ${one.name}`, onclick: () => change(one, "rotate") }, "Rotate"), h("button", { type: "button", class: "small", "aria-label": `Revoke ${one.name}`, onclick: () => change(one, "revoke") }, "Revoke"))
              : null,
        },
      ],
      keys.items,
    ),
    keys.controls(),
  ];
}

/** @param {ReturnType<typeof pager>} audit */
function auditTable(audit) {
  if (!audit.items) return loading();
  if (!audit.items.length) return empty("The log is empty.", "Changes, refusals and reads of data appear here.");
  return [
    table(
      "Audit log, the newest first",
      [
        { name: "Time", of: (one) => time(one.time) },
        { name: "Request", wide: true, of: (one) => one.operation },
        { name: "Resource", of: (one) => (one.resource ? id(one.resource) : "–") },
        { name: "Result", of: (one) => badge(String(one.status), one.status < 400 ? "good" : "bad") },
        { name: "Key", of: (one) => id(`${one.key_prefix}…`) },
        { name: "From", of: (one) => one.address ?? "–" },
      ],
      audit.items,
    ),
    audit.controls(),
  ];
}
