// One page of a list at a time, kept fresh.

import { api } from "./api.js";
import { h } from "./dom.js";
import { button } from "./parts.js";

/**
 * @param {import("./context.js").Context} ctx
 * @param {string} path
 * @param {number} everyMs
 */
export function pager(ctx, path, everyMs) {
  /** Cursors of the pages up to this one. @type {string[]} */
  const cursors = [""];
  /** @type {string | null} */
  let next = null;
  const refresh = ctx.every(everyMs, async (signal) => {
    const cursor = cursors.at(-1);
    const page = await api(`${path}${path.includes("?") ? "&" : "?"}limit=25${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, { signal });
    if (cursor !== cursors.at(-1)) return;
    own.items = page.items;
    next = page.next_cursor;
  });
  const go = () => {
    own.items = null;
    ctx.redraw();
    refresh();
  };
  const own = {
    /** @type {any[] | null} */ items: null,
    refresh,
    controls: () =>
      cursors.length === 1 && !next
        ? null
        : h(
            "nav",
            { class: "actions", "aria-label": "Pages of the list" },
            button("Newer", () => (cursors.pop(), go()), { disabled: cursors.length === 1 }),
            button("Older", () => (cursors.push(/** @type {string} */ (next)), go()), { disabled: !next }),
          ),
  };
  return own;
}
