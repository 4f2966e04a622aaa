// What a page gets from the shell: its parameters, drawing, polling and notices.

import { Problem, Unreachable, delay } from "./api.js";

/** @typedef {ReturnType<typeof context>} Context */

/**
 * @param {{params: string[], query: URLSearchParams, redraw: () => void, onConnection: (online: boolean) => void,
 *   onRefused: (problem: Problem) => void, notify: (text: string) => void}} shell
 */
export function context({ params, query, redraw, onConnection, onRefused, notify }) {
  const leaving = new AbortController();
  /** @type {{problem: unknown}} */
  const shown = { problem: null };

  /** @param {unknown} error */
  function note(error) {
    if (leaving.signal.aborted) return;
    onConnection(!(error instanceof Unreachable));
    if (error instanceof Problem && error.status === 401) onRefused(error);
    else if (!(error instanceof Unreachable)) shown.problem = error;
    if (error && !(error instanceof Problem || error instanceof Unreachable)) console.error(error);
    redraw();
  }

  /**
   * Do the work now and again after each pause, until the page is left. Work that fails is tried again.
   * Nothing is asked for while the page is hidden.
   * @param {number} milliseconds
   * @param {(signal: AbortSignal) => Promise<unknown>} work
   * @returns {() => void} does the work at once
   */
  function every(milliseconds, work) {
    let wake = () => {};
    (async () => {
      while (!leaving.signal.aborted) {
        let pause = milliseconds;
        if (document.visibilityState === "visible") {
          try {
            await work(leaving.signal);
            note(null);
          } catch (error) {
            note(error);
            if (error instanceof Problem && [403, 404].includes(error.status)) return;
            pause = Math.max(milliseconds, (error instanceof Problem && error.retryAfter ? error.retryAfter : 2) * 1000);
          }
        }
        await Promise.race([delay(pause, leaving.signal), new Promise((resolve) => (wake = () => resolve(null)))]);
      }
    })();
    return () => wake();
  }

  return { params, query, redraw, notify, note, every, signal: leaving.signal, leave: () => leaving.abort(), shown };
}
