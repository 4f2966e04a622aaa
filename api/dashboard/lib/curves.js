// Curves of a training that arrive in parts.

/**
 * Append newer rounds. A worker that joined late has null in the rounds before.
 * @param {any} known
 * @param {any} more
 */
export function merge(known, more) {
  if (!known) return more;
  if (!more.rounds.length) return known;
  /** @type {Record<string, any>} */
  const merged = { ...known, workers: {} };
  for (const [name, values] of Object.entries(more)) if (Array.isArray(values)) merged[name] = [...known[name], ...values];
  for (const node of new Set([...Object.keys(known.workers), ...Object.keys(more.workers)])) {
    merged.workers[node] = {};
    for (const name of ["local_loss", "local_accuracy", "train_seconds"])
      merged.workers[node][name] = [...series(known, node, name), ...series(more, node, name)];
  }
  return merged;
}

/** @param {any} curves @param {string} node @param {string} name */
const series = (curves, node, name) => curves.workers[node]?.[name] ?? curves.rounds.map(() => null);
