// A card with the items of a list, page by page.

import { card, loading, table } from "./parts.js";

/**
 * @param {import("./context.js").Context} ctx
 * @param {{ items: any[] | null | undefined, controls: () => any }} pages
 * @param {string} caption
 * @param {{name: string, of: (row: any) => any, number?: boolean, wide?: boolean}[]} columns
 * @param {any} nothing what to show when the list is empty
 */
export function listing(ctx, pages, caption, columns, nothing) {
  if (!pages.items) return card(null, {}, ctx.shown.problem ? null : loading());
  return card(null, {}, pages.items.length ? [table(caption, columns, pages.items), pages.controls()] : nothing);
}
