// Calls of the REST API with the key of this tab: requests, uploads, downloads and event streams.

/** The root of the service, one folder above the dashboard. */
export const ROOT = new URL("../../", import.meta.url);
const STORED = "flow-nexus-key";
const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/** A refusal in the API's words (application/problem+json). */
export class Problem extends Error {
  /** @param {number} status @param {any} body @param {number | null} [retryAfter] seconds that the API asks to wait */
  constructor(status, body, retryAfter = null) {
    super(body?.detail ?? `The server answered ${status}.`);
    this.status = status;
    /** @type {string} */
    this.code = body?.code ?? "no_code";
    /** @type {string} */
    this.title = body?.title ?? "Error";
    /** @type {{pointer: string, message: string}[]} */
    this.errors = body?.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

/** The server could not be reached. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

/** @returns {string | null} */
export const key = () => sessionStorage.getItem(STORED);
/** @param {string} secret */
export const signIn = (secret) => sessionStorage.setItem(STORED, secret.trim());
export const signOut = () => sessionStorage.removeItem(STORED);

/**
 * @typedef {object} Call
 * @property {string} [method]
 * @property {any} [body] is sent as JSON
 * @property {number} [wait] seconds for which the API may hold the answer
 * @property {AbortSignal} [signal]
 */

/** @type {Map<string, {tag: string, value: any}>} */
const kept = new Map();

/**
 * Send a request and return the JSON of its answer. An answer that has not changed is not sent again.
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<any>}
 */
export async function api(path, { method = "GET", body, wait, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Authorization: `Bearer ${key()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (wait) headers.Prefer = `wait=${wait}`;
  const known = method === "GET" ? kept.get(path) : undefined;
  if (known) headers["If-None-Match"] = known.tag;
  const answer = await send(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 304 && known) return known.value;
  if (!answer.ok) throw await problem(answer);
  if (answer.status === 204) return null;
  const value = await answer.json();
  const tag = answer.headers.get("ETag");
  if (method === "GET" && tag) remember(path, tag, value);
  return value;
}

/** @param {string} path @param {string} tag @param {any} value */
function remember(path, tag, value) {
  kept.delete(path);
  kept.set(path, { tag, value });
  if (kept.size > 100) kept.delete(/** @type {string} */ (kept.keys().next().value));
}

/** Forget all answers, for example when another key signs in. */
export const forget = () => kept.clear();

/** @param {string} path @param {RequestInit} options */
async function send(path, options) {
  try {
    return await fetch(new URL(path.replace(/^\//, ""), ROOT), { cache: "no-store", credentials: "omit", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Unreachable();
  }
}

/** @param {Response} answer */
async function problem(answer) {
  const seconds = Number(answer.headers.get("Retry-After"));
  return new Problem(answer.status, await answer.json().catch(() => null), seconds || null);
}

/**
 * Return all items of a list, at most `most`.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @param {number} [most]
 * @returns {Promise<any[]>}
 */
export async function all(path, signal, most = 1000) {
  const items = [];
  let cursor = "";
  do {
    const page = await api(`${path}${path.includes("?") ? "&" : "?"}limit=100${cursor}`, { signal });
    items.push(...page.items);
    cursor = page.next_cursor ? `&cursor=${encodeURIComponent(page.next_cursor)}` : "";
  } while (cursor && items.length < most);
  return items;
}

/**
 * Upload a file. The browser reads it from the disk piece by piece.
 * @param {string} path
 * @param {Blob} file
 * @param {(part: number) => void} onProgress
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export function upload(path, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", new URL(path.replace(/^\//, ""), ROOT));
    request.setRequestHeader("Authorization", `Bearer ${key()}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(file.size ? event.loaded / file.size : 1);
    request.onerror = () => reject(new Unreachable());
    request.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    request.onload = () => {
      const body = parsed(request.responseText);
      if (request.status < 300) resolve(body);
      else reject(new Problem(request.status, body));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Save the bytes of an answer as a file of the user.
 * @param {string} path
 * @param {string} name
 * @param {(part: number | null) => void} onProgress
 */
export async function download(path, name, onProgress) {
  const answer = await send(path, { headers: { Authorization: `Bearer ${key()}` } });
  if (!answer.ok || !answer.body) throw await problem(answer);
  const total = Number(answer.headers.get("Content-Length")) || null;
  let received = 0;
  const counted = answer.body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        received += chunk.length;
        onProgress(total ? received / total : null);
        controller.enqueue(chunk);
      },
    }),
  );
  const address = URL.createObjectURL(await new Response(counted).blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/**
 * @typedef {object} ServerEvent
 * @property {number} id
 * @property {string} type
 * @property {any} data
 */

/**
 * Follow a stream of events. After a lost connection it continues behind the last event that arrived.
 * It returns when the stream has ended by itself.
 * @param {string} path
 * @param {{onEvent: (event: ServerEvent) => void, onState: (connected: boolean) => void, signal: AbortSignal, after?: number,
 *   isOver: () => boolean}} options
 */
export async function follow(path, { onEvent, onState, signal, after = 0, isOver }) {
  let last = after;
  let pause = SHORTEST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      const answer = await send(path, { signal, headers: { Authorization: `Bearer ${key()}`, "Last-Event-ID": String(last) } });
      if (answer.status === 204) return;
      if (!answer.ok || !answer.body) throw await problem(answer);
      onState(true);
      for await (const event of parse(answer.body)) {
        pause = SHORTEST_PAUSE_MS;
        last = event.id;
        onEvent(event);
      }
      if (isOver()) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status < 500 && error.status !== 429) throw error;
      onState(false);
    }
    await delay(pause, signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

/** @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<ServerEvent>} */
export async function* parse(body) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = /** @type {string} */ (blocks.pop());
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => split(line)));
        if (fields.data) yield { id: Number(fields.id), type: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.releaseLock();
  }
}

/** @param {string} line @returns {[string, string]} */
function split(line) {
  const at = line.indexOf(": ");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 2)];
}

/** @param {number} milliseconds @param {AbortSignal} signal @returns {Promise<void>} */
export function delay(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/**
 * The curl line that does the same. The key stays out of it: `$FLOW_NEXUS_API_KEY` stands for it.
 * @param {string} path
 * @param {{method?: string, body?: any, wait?: number, file?: string, save?: string}} [call]
 */
export function curl(path, { method = "GET", body, wait, file, save } = {}) {
  const parts = [`curl -sS --fail-with-body -H "Authorization: Bearer $FLOW_NEXUS_API_KEY"`];
  if (file) parts.push(`-T ${quoted(file)}`);
  else if (body !== undefined) parts.push(`-H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`);
  else if (method !== "GET") parts.push(`-X ${method}`);
  if (wait) parts.push(`-H 'Prefer: wait=${wait}'`);
  parts.push(quoted(new URL(path.replace(/^\//, ""), ROOT).href));
  if (save) parts.push(`-o ${quoted(save)}`);
  return parts.join(" ");
}

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
