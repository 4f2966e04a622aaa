import { h } from "../lib/dom.js";
import { empty, link } from "../lib/parts.js";

/** @returns {() => import("../lib/dom.js").Loose} */
export default function unknown() {
  return () => [h("h1", { tabindex: "-1" }, "Not found"), empty("There is no such page.", "The address may be old or cut off.", link("/", "Go to the overview"))];
}
