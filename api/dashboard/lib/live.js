// Events of a cluster or a training as they happen, for a page.

import { follow } from "./api.js";
import { h } from "./dom.js";
import { badge, card, empty, time } from "./parts.js";
import { isBad, sentence } from "./told.js";

/** @typedef {import("./api.js").ServerEvent} ServerEvent */

const MOST_KEPT = 300;

/**
 * Follow a stream and keep its newest events. `onEvent` is called for each.
 * @param {import("./context.js").Context} ctx
 * @param {string} path
 * @param {{onEvent?: (event: ServerEvent) => void, isOver: () => boolean}} options
 */
export function live(ctx, path, { onEvent, isOver }) {
  /** @type {ServerEvent[]} */
  const events = [];
  let connected = false;
  let ended = false;
  follow(path, {
    signal: ctx.signal,
    isOver,
    onState: (state) => {
      connected = state;
      ctx.redraw();
    },
    onEvent: (event) => {
      events.unshift(event);
      if (events.length > MOST_KEPT) events.length = MOST_KEPT;
      onEvent?.(event);
      ctx.redraw();
    },
  }).then(
    () => {
      ended = true;
      ctx.redraw();
    },
    (error) => ctx.note(error),
  );
  const state = () => (ended ? badge("ended", "quiet") : connected ? badge("live", "good") : badge("connecting", "warn"));
  return {
    events,
    state,
    view: () =>
      card(
        "Events",
        { actions: state() },
        events.length
          ? h(
              "ol",
              { class: "events", tabindex: "0", "aria-label": "Events, the newest first" },
              events.map((event) =>
                h("li", { key: event.id }, time(event.data.time), h("p", null, isBad(event.type) ? [badge(event.type.split(".")[1], "bad"), " "] : null, sentence(event))),
              ),
            )
          : empty("Nothing has happened yet.", "Events appear here as they happen."),
      ),
  };
}
