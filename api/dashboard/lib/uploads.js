// Upload files to nodes: drag them here, or choose them. Each is sent as a stream.

import { curl, upload } from "./api.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { bytes, percent } from "./format.js";
import { badge, bar, button, curlLine, problem } from "./parts.js";

/** @typedef {{file: File, node: string, path: string, part: number | null, done: boolean, error: unknown, aborter: AbortController | null}} Item */

/**
 * @param {any[]} nodes that run
 * @param {(text: string) => void} notify
 */
export function openUploads(nodes, notify) {
  openDialog("Upload data", ({ close, redraw }) => {
    /** @type {Item[]} */
    const items = [];
    let over = false;
    let busy = false;

    /** @param {FileList | null | undefined} files */
    function add(files) {
      for (const file of files ?? []) items.push({ file, node: nodeFor(file.name, items.length), path: pathFor(file.name), part: null, done: false, error: null, aborter: null });
      redraw();
    }

    /** @param {string} name @param {number} index */
    function nodeFor(name, index) {
      const aggregator = nodes.find((node) => node.role === "aggregator");
      const workers = nodes.filter((node) => node.role === "worker");
      if (/validation|test/i.test(name) && aggregator) return aggregator.node_id;
      return (workers[index % Math.max(1, workers.length)] ?? nodes[0]).node_id;
    }

    async function send() {
      busy = true;
      for (const item of items.filter((one) => !one.done)) {
        item.error = null;
        item.aborter = new AbortController();
        try {
          await upload(address(item), item.file, (part) => ((item.part = part), redraw()), item.aborter.signal);
          item.done = true;
        } catch (error) {
          item.error = error;
        }
        redraw();
      }
      busy = false;
      redraw();
      if (items.every((item) => item.done)) notify(`${items.length === 1 ? "The file is" : `${items.length} files are`} uploaded.`);
    }

    return () => [
      h(
        "div",
        { class: "dialog-body", tabindex: "0", role: "group", "aria-label": "Details" },
        h("p", null, "Each file goes to the sandbox of one node, and no other node reads it. A training reads the files that its dataset names, for example /data/train_*.json."),
        h(
          "div",
          {
            class: over ? "drop over" : "drop",
            ondragover: (/** @type {DragEvent} */ event) => (event.preventDefault(), (over = true), redraw()),
            ondragleave: () => ((over = false), redraw()),
            ondrop: (/** @type {DragEvent} */ event) => (event.preventDefault(), (over = false), add(event.dataTransfer?.files)),
          },
          h("p", null, "Drag files here, or"),
          h("label", { class: "button", for: "files" }, "Choose files"),
          h("input", { id: "files", class: "hidden", type: "file", multiple: true, onchange: (/** @type {any} */ event) => (add(event.target.files), (event.target.value = "")) }),
        ),
        items.map((item, index) => row(item, index)),
        items.length ? curlLine(items.map((item) => curl(address(item), { method: "PUT", file: item.file.name })).join("\n")) : null,
      ),
      h("footer", null, button(items.length && items.every((item) => item.done) ? "Done" : "Close", close), h("button", { type: "button", class: "primary", disabled: busy || !items.some((item) => !item.done), onclick: send }, busy ? "Uploading…" : "Upload")),
    ];

    /** @param {Item} item @param {number} index */
    function row(item, index) {
      return h(
        "div",
        { class: "upload" },
        h("p", { class: "row-head" }, h("strong", null, item.file.name), h("span", { class: "note" }, bytes(item.file.size), item.part !== null && !item.done ? `, ${percent(item.part)}` : ""), item.done ? badge("uploaded", "good") : null),
        item.done
          ? null
          : h(
              "div",
              { class: "pair" },
              h("div", null, h("label", { for: `node-${index}` }, "Node"), h("select", { id: `node-${index}`, value: item.node, disabled: busy, onchange: (/** @type {any} */ event) => ((item.node = event.target.value), redraw()) }, nodes.map((node) => h("option", { value: node.node_id }, `${node.node_id} (${node.role})`)))),
              h("div", null, h("label", { for: `path-${index}` }, "Path"), h("input", { id: `path-${index}`, value: item.path, disabled: busy, oninput: (/** @type {any} */ event) => ((item.path = event.target.value), redraw()) })),
            ),
        item.part !== null && !item.done ? bar(item.part, `Upload of ${item.file.name}`) : null,
        busy && item.part !== null && !item.done ? button("Cancel", () => item.aborter?.abort(), { kind: "small" }) : null,
        problem(item.error),
      );
    }
  });
}

/** @param {Item} item */
const address = (item) => `/v1/sandboxes/${item.node}/files?path=${encodeURIComponent(item.path)}`;
/** @param {string} name */
const pathFor = (name) => `/data/${name.replace(/[^\w.-]/g, "_")}`;
