// The nodes of a cluster as a picture: who is connected with whom, and what they sent each other.

import { Chart } from "./charts.js";
import { h } from "./dom.js";
import { bytes } from "./format.js";

const WIDEST = 720;
const MOST_DRAWN = 120;
const KINDS = /** @type {Record<string, string>} */ ({ running: "good", provisioning: "busy", terminating: "busy", lost: "bad", failed: "bad" });

/**
 * @typedef {object} GraphNode
 * @property {string} node_id
 * @property {string} role
 * @property {string} status
 * @property {boolean} [flagged]
 * @property {boolean} [aggregates]
 */

/**
 * @typedef {object} Graph
 * @property {GraphNode[]} nodes
 * @property {{from: string, to: string}[]} connections `to` is a node's id or `all`
 * @property {{from: string, to: string, bytes: number}[]} links of the last round
 */

class GraphChart extends Chart {
  /** @param {Graph} data @param {number} width */
  view(data, width) {
    return picture(data, Math.min(width, WIDEST));
  }
}

customElements.define("fn-graph", GraphChart);

/** @param {Graph} data */
export const graph = (data) => (data.nodes.some(isShown) ? h("fn-graph", { data }) : null);

/** @param {GraphNode} node */
const isShown = (node) => node.status !== "terminated";

/** @param {Graph} data @param {number} width */
function picture({ nodes, connections, links }, width) {
  const shown = nodes.filter(isShown).slice(0, MOST_DRAWN);
  const centre = shown.find((node) => node.aggregates) ?? shown.find((node) => node.role === "aggregator");
  const around = shown.filter((node) => node !== centre);
  const tight = around.length > 16;
  const height = tight ? 560 : 380;
  const places = place(centre, around, width, height, tight);
  const sent = sums(links);
  const most = Math.max(1, ...sent.values());
  const pairs = edges(connections, shown.map((node) => node.node_id), centre?.node_id);
  for (const name of sent.keys()) pairs.add(name);
  const size = tight ? Math.max(5, 15 - around.length / 10) : 20;
  return h(
    "svg",
    { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description(shown, centre, pairs.size) },
    [...pairs].map((pair) => {
      const [from, to] = pair.split(" ").map((one) => places.get(one));
      if (!from || !to) return null;
      const amount = sent.get(pair);
      return h(
        "path",
        { class: amount ? "edge used" : "edge", d: bend(from, to), "stroke-width": amount ? 1 + 5 * Math.sqrt(amount / most) : 1 },
        h("title", null, amount ? `${pair.replace(" ", " and ")}: ${bytes(amount)} in the last round` : pair.replace(" ", " and ")),
      );
    }),
    shown.map((node) => {
      const [x, y] = /** @type {[number, number]} */ (places.get(node.node_id));
      const isCentre = node === centre;
      const radius = isCentre ? 26 : size;
      return h(
        "g",
        { class: `node ${KINDS[node.status] ?? ""} ${isCentre ? "aggregator" : ""}` },
        h("circle", { cx: x, cy: y, r: radius }),
        node.flagged ? h("circle", { class: "flagged", cx: x + radius * 0.72, cy: y - radius * 0.72, r: 5 }) : null,
        h("title", null, `${node.node_id}: ${node.role}, ${node.status}${node.flagged ? ", flagged" : ""}`),
        tight && !isCentre ? null : h("text", { x, y: y + radius + 17 }, short(node.node_id)),
        tight && !isCentre ? null : h("text", { class: "small", x, y: y + radius + 31 }, node.flagged ? `${node.status}, flagged` : node.status),
      );
    }),
  );
}

/** A slight bend keeps apart the lines that cross the centre. @param {[number, number]} from @param {[number, number]} to */
function bend([x1, y1], [x2, y2]) {
  const [x, y] = [(x1 + x2) / 2 - (y2 - y1) * 0.12, (y1 + y2) / 2 + (x2 - x1) * 0.12];
  return `M${x1.toFixed(1)} ${y1.toFixed(1)}Q${x.toFixed(1)} ${y.toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`;
}

/** @param {string} id */
const short = (id) => id.replace(/^node_/, "");

/**
 * @param {GraphNode | undefined} centre
 * @param {GraphNode[]} around
 * @param {number} width
 * @param {number} height
 * @param {boolean} tight
 */
function place(centre, around, width, height, tight) {
  /** @type {Map<string, [number, number]>} */
  const places = new Map();
  const middle = height / 2 - 14;
  if (centre) places.set(centre.node_id, [width / 2, middle]);
  const [wide, high] = tight ? [Math.min(270, width / 2 - 24), middle - 30] : [Math.min(250, width / 2 - 56), middle - 46];
  around.forEach((node, index) => {
    const angle = (index / around.length) * 2 * Math.PI - Math.PI / 2 + (around.length % 2 ? 0 : Math.PI / around.length);
    places.set(node.node_id, [width / 2 + wide * Math.cos(angle), middle + high * Math.sin(angle)]);
  });
  return places;
}

/** @param {{from: string, to: string}[]} connections @param {string[]} ids @param {string | undefined} centre */
function edges(connections, ids, centre) {
  /** @type {Set<string>} */
  const pairs = new Set();
  for (const { from, to } of connections)
    for (const other of to === "all" ? ids : [to]) if (other !== from && (to !== "all" || from === centre)) pairs.add(pair(from, other));
  return pairs;
}

/** @param {{from: string, to: string, bytes: number}[]} links */
function sums(links) {
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const link of links) {
    const name = pair(link.from, link.to);
    found.set(name, (found.get(name) ?? 0) + link.bytes);
  }
  return found;
}

/** @param {string} one @param {string} other */
const pair = (one, other) => (one < other ? `${one} ${other}` : `${other} ${one}`);

/** @param {GraphNode[]} nodes @param {GraphNode | undefined} centre @param {number} count */
function description(nodes, centre, count) {
  const states = Object.entries(Object.groupBy(nodes, (node) => node.status)).map(([status, some]) => `${some?.length} ${status}`);
  return `${nodes.length} nodes (${states.join(", ")}), ${count} connections${centre ? `, ${centre.node_id} aggregates` : ""}.`;
}
