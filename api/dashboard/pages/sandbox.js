// One sandbox: its use, the limits that were hit, and its live log.

import { Problem, api, curl, download } from "../lib/api.js";
import { openUploads } from "../lib/uploads.js";
import { h } from "../lib/dom.js";
import { bytes, number, percent, seconds } from "../lib/format.js";
import { badge, button, card, curlLine, empty, id, link, loading, meter, problem, stat, stats, table, time } from "../lib/parts.js";

/** @typedef {import("../lib/types.js").Sandbox} Sandbox */

const LINES = 200;

/** @param {import("../lib/context.js").Context} ctx */
export default function sandboxPage(ctx) {
  const [nodeId] = ctx.params;
  const base = `/v1/sandboxes/${nodeId}`;
  /** @type {Sandbox | null} */
  let sandbox = null;
  /** @type {import("../lib/types.js").LogLines | null} */
  let log = null;
  /** @type {unknown} */
  let logProblem = null;
  const file = { path: "/data", busy: false, error: /** @type {unknown} */ (null) };
  /** @type {import("../lib/types.js").FileList | null} */
  let folder = null;
  ctx.every(3000, async (signal) => {
    sandbox = await api(base, { signal });
    // The log is part of the page: without it, the rest is shown all the same.
    try {
      log = (await api(`${base}/logs?lines=${LINES}`, { signal })).lines;
      logProblem = null;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      logProblem = error;
    }
  });

  async function save() {
    Object.assign(file, { busy: true, error: null });
    ctx.redraw();
    try {
      await download(`${base}/files?path=${encodeURIComponent(file.path)}`, file.path.split("/").pop() || "folder.tar", () => {});
    } catch (error) {
      file.error = error;
    }
    file.busy = false;
    ctx.redraw();
  }

  /** @param {string} path */
  async function show(path) {
    Object.assign(file, { path, error: null });
    try {
      folder = await api(`${base}/files/list?path=${encodeURIComponent(path)}`, { signal: ctx.signal });
    } catch (error) {
      file.error = error;
    }
    ctx.redraw();
  }

  return () => {
    if (!sandbox) return [h("h1", { tabindex: "-1" }, "Sandbox"), ctx.shown.problem ? null : loading()];
    const runs = sandbox.status === "running";
    return [
      h(
        "div",
        { class: "page-head" },
        h("div", null, h("p", { class: "crumbs" }, link("/sandboxes", "Sandboxes"), " · ", link(`/clusters/${sandbox.cluster_id}`, "its cluster")), h("h1", { tabindex: "-1" }, sandbox.node_id), h("div", { class: "facts" }, badge(sandbox.status), sandbox.health ? badge(sandbox.health) : null, id(sandbox.sandbox_id), h("span", null, sandbox.role), h("span", null, sandbox.template))),
        h("div", { class: "actions" }, button("Upload data", () => openUploads([sandbox], ctx.notify), { disabled: !runs })),
      ),
      use(sandbox),
      h("div", { class: "grid" }, limits(sandbox), files()),
      card(
        "Log",
        { note: `the newest ${LINES} lines, the newest last` },
        problem(logProblem),
        log?.length
          ? h("pre", { class: "log", tabindex: "0", "aria-label": "Log of the sandbox" }, log.map((line) => h("span", { class: line.stream === "stderr" ? "err" : null, title: line.time }, `${line.line}\n`)))
          : logProblem ? null : empty("The log is empty.", "Lines of the agent appear here."),
        curlLine(curl(`${base}/logs?lines=${LINES}`)),
      ),
    ];
  };

  function files() {
    const address = `${base}/files?path=${encodeURIComponent(file.path)}`;
    return card(
      "Files",
      { note: "as far as your key may read it" },
      folder ? listed(folder, show, (path) => ((file.path = path), ctx.redraw())) : null,
      h("form", { class: "try", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), save()) }, h("div", { class: "field" }, h("label", { for: "file-path" }, "Path of a file or a folder"), h("input", { id: "file-path", required: true, value: file.path, oninput: (/** @type {any} */ event) => ((file.path = event.target.value), ctx.redraw()) })), h("div", { class: "actions" }, button("List", () => show(file.path)), h("button", { disabled: file.busy }, file.busy ? "Downloading…" : "Download")), problem(file.error), curlLine(curl(address, { save: file.path.split("/").pop() || "folder.tar" }))),
    );
  }
}

/**
 * @param {import("../lib/types.js").FileList} folder
 * @param {(path: string) => void} open shows a folder
 * @param {(path: string) => void} choose takes the path of a file
 */
function listed(folder, open, choose) {
  const inside = (/** @type {string} */ name) => `${folder.path}/${name}`;
  const above = folder.path.replace(/\/[^/]*$/, "");
  return h(
    "div",
    null,
    h("p", { class: "note" }, `${folder.path}: ${number(folder.total)} ${folder.total === 1 ? "entry" : "entries"} `, above ? button("Up", () => open(above)) : null),
    folder.items.length
      ? table(
          `Files in ${folder.path}`,
          [
            { name: "Name", wide: true, of: (one) => button(one.kind === "folder" ? `${one.name}/` : one.name, () => (one.kind === "folder" ? open : choose)(inside(one.name))) },
            { name: "Size", number: true, of: (one) => (one.size === null ? "–" : bytes(one.size)) },
            { name: "Changed", of: (one) => time(one.modified_at) },
          ],
          folder.items,
        )
      : empty("The folder is empty.", "Upload data, or open another folder."),
  );
}

/** @param {Sandbox} sandbox */
function use(sandbox) {
  const now = sandbox.usage;
  const memory = now?.memory_used_bytes ?? null;
  return card(
    null,
    {},
    stats(
      stat("CPU in use", now?.cpu_used_percent == null ? "–" : percent(now.cpu_used_percent / 100), sandbox.resources ? `${number(sandbox.resources.cpu_cores)} cores` : null),
      stat("Memory in use", bytes(memory), now?.memory_total_bytes ? `of ${bytes(now.memory_total_bytes)}` : null),
      stat("Disk in use", bytes(now?.disk_used_bytes ?? null), now?.disk_total_bytes ? `of ${bytes(now.disk_total_bytes)}` : null),
      stat("Runs for", seconds(sandbox.uptime_seconds)),
      stat("Ends", sandbox.expires_at ? time(sandbox.expires_at) : "–", "unless it is extended"),
    ),
    now?.memory_total_bytes ? meter(memory ?? 0, now.memory_total_bytes, "Memory") : null,
  );
}

/** @param {Sandbox} sandbox */
function limits(sandbox) {
  return card(
    "Limits that were hit",
    {},
    sandbox.limit_hits?.length
      ? table(
          "Limits that were hit",
          [
            { name: "Limit", of: (one) => one.limit },
            { name: "Times", number: true, of: (one) => number(one.count) },
            { name: "Last", of: (one) => time(one.last_at) },
          ],
          sandbox.limit_hits,
        )
      : empty(sandbox.limit_hits ? "No limit was hit." : "It is not known.", sandbox.limit_hits ? "Memory, processes, disk, files, time and output are limited." : "The sandbox has ended, or its provider does not tell."),
  );
}
