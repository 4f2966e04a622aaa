// The shell: sign-in, navigation, the page of the address, notices.

import { Problem, api, forget, key, signIn, signOut } from "./lib/api.js";
import { context } from "./lib/context.js";
import { draw, h } from "./lib/dom.js";
import { loading, problem } from "./lib/parts.js";
import { setTheme, theme } from "./theme.js";

/** @typedef {import("./lib/context.js").Context} Context */
/** @typedef {import("./lib/dom.js").Loose} Loose */
/** @typedef {() => Loose} View */

/** Pages by the pattern of their address. The first that fits is shown. */
const PAGES = /** @type {[RegExp, string, () => Promise<{default: (ctx: Context) => View}>][]} */ ([
  [/^\/$/, "Overview", () => import("./pages/overview.js")],
  [/^\/clusters$/, "Clusters", () => import("./pages/clusters.js")],
  [/^\/clusters\/([^/]+)$/, "Clusters", () => import("./pages/cluster.js")],
  [/^\/compare$/, "Compare", () => import("./pages/compare.js")],
  [/^\/searches$/, "Searches", () => import("./pages/searches.js")],
  [/^\/searches\/([^/]+)$/, "Searches", () => import("./pages/search.js")],
  [/^\/sandboxes$/, "Sandboxes", () => import("./pages/sandboxes.js")],
  [/^\/sandboxes\/([^/]+)$/, "Sandboxes", () => import("./pages/sandbox.js")],
  [/^\/admin$/, "Keys and audit", () => import("./pages/admin.js")],
  [/^\/models$/, "Models", () => import("./pages/models.js")],
  [/^\/models\/([^/]+)$/, "Models", () => import("./pages/model.js")],
  [/^\/trainings$/, "Trainings", () => import("./pages/trainings.js")],
  [/^\/trainings\/([^/]+)$/, "Trainings", () => import("./pages/training.js")],
]);
const MENU = [
  ["/", "Overview"],
  ["/clusters", "Clusters"],
  ["/trainings", "Trainings"],
  ["/compare", "Compare"],
  ["/searches", "Searches"],
  ["/models", "Models"],
  ["/sandboxes", "Sandboxes"],
  ["/admin", "Keys and audit"],
];
const NOTICE_MS = 6000;

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
const shell = {
  /** @type {Context | null} */ ctx: null,
  /** @type {View | null} */ view: null,
  section: "",
  path: "",
  online: true,
  menuOpen: false,
  /** @type {string} */ notice: "",
  /** @type {unknown} */ refusal: null,
};
let planned = 0;
let opened = 0;

function redraw() {
  if (!planned)
    planned = requestAnimationFrame(() => {
      planned = 0;
      draw(root, key() ? frame() : signInPage());
    });
}

function takeKeyFromAddress() {
  const given = /^#key=(.+)$/.exec(location.hash);
  if (!given) return;
  signIn(decodeURIComponent(given[1]));
  // The key must not stay in the address or in the history.
  history.replaceState(null, "", `${location.pathname}#/`);
}

async function open() {
  takeKeyFromAddress();
  shell.ctx?.leave();
  Object.assign(shell, { ctx: null, view: null, menuOpen: false, section: "" });
  if (!key()) return redraw();
  const number = ++opened;
  const [path, search] = (location.hash.slice(1) || "/").split("?");
  const [page, match] = PAGES.map((one) => /** @type {const} */ ([one, one[0].exec(path)])).find((pair) => pair[1]) ?? [null, null];
  Object.assign(shell, { section: page?.[1] ?? "", path });
  redraw();
  const ctx = context({
    params: (match ?? []).slice(1).map(decodeURIComponent),
    query: new URLSearchParams(search),
    redraw,
    notify,
    onConnection: (online) => (shell.online = online),
    onRefused: (refusal) => leaveSession(refusal),
  });
  const module = page ? await page[2]() : await import("./pages/unknown.js");
  if (number !== opened) return ctx.leave();
  shell.ctx = ctx;
  shell.view = module.default(ctx);
  redraw();
  requestAnimationFrame(() => requestAnimationFrame(focusHeading));
}

function focusHeading() {
  const heading = document.querySelector("main h1");
  document.title = heading?.textContent ? `${heading.textContent} · Flow Nexus` : "Flow Nexus";
  if (opened > 1) /** @type {HTMLElement | null} */ (heading)?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/** @param {string} text */
function notify(text) {
  shell.notice = text;
  setTimeout(() => {
    if (shell.notice === text) shell.notice = "";
    redraw();
  }, NOTICE_MS);
  redraw();
}

/** @param {unknown} refusal */
function leaveSession(refusal) {
  signOut();
  forget();
  shell.ctx?.leave();
  Object.assign(shell, { ctx: null, view: null, refusal });
  redraw();
}

/** @param {number} size */
const icon = (size) => h("img", { src: new URL("icon.svg", import.meta.url).href, alt: "", width: size, height: size });

function frame() {
  const problemOfPage = shell.ctx?.shown.problem;
  return [
    h(
      "header",
      { class: "top", key: "top" },
      h("a", { href: "#/", class: "brand" }, icon(24), "Flow Nexus"),
      h("button", { type: "button", class: "menu", "aria-expanded": String(shell.menuOpen), "aria-controls": "menu", onclick: () => ((shell.menuOpen = !shell.menuOpen), redraw()) }, "Menu"),
    ),
    h(
      "nav",
      { id: "menu", class: shell.menuOpen ? "side open" : "side", "aria-label": "Pages", key: "side" },
      h("a", { href: "#/", class: "brand" }, icon(24), "Flow Nexus"),
      h("ul", null, MENU.map(([href, name]) => h("li", null, h("a", { href: `#${href}`, "aria-current": shell.section === name ? "page" : null }, name)))),
      h(
        "div",
        { class: "side-end" },
        h("label", null, "Colours ", h("select", { value: theme(), onchange: (/** @type {any} */ event) => setTheme(event.target.value) }, ["system", "light", "dark"].map((one) => h("option", { value: one }, one)))),
        h("button", { type: "button", class: "small", onclick: () => leaveSession(null) }, "Sign out"),
      ),
    ),
    h(
      "main",
      { id: "main", tabindex: "-1", key: shell.path, "data-path": shell.path },
      shell.online ? null : h("p", { class: "offline", role: "status" }, "The server cannot be reached. The page tries again."),
      problem(problemOfPage),
      shell.view ? shell.view() : loading(),
    ),
    h("p", { class: shell.notice ? "notice shown" : "notice", role: "status", key: "notice" }, shell.notice),
  ];
}

function signInPage() {
  return [
    h(
      "main",
      { id: "main", class: "sign-in", tabindex: "-1", key: "sign-in" },
      h(
        "form",
        { class: "card", onsubmit: trySignIn },
        icon(48),
        h("h1", { tabindex: "-1" }, "Flow Nexus"),
        h("p", null, "Sign in with an API key. It stays in this tab and is forgotten when you sign out."),
        problem(shell.refusal),
        h("label", { for: "key" }, "API key"),
        h("input", { id: "key", name: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "fnx_…" }),
        h("button", { class: "primary" }, "Sign in"),
        h("p", { class: "note" }, "The command ", h("code", null, "flow-nexus dashboard"), " opens this page with your key. ", h("code", null, "flow-nexus keys create"), " makes another key."),
      ),
    ),
  ];
}

/** @param {SubmitEvent} event */
async function trySignIn(event) {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (document.getElementById("key"));
  signIn(input.value);
  try {
    await api("/v1/clusters?limit=1");
  } catch (error) {
    // A key without this scope is a key all the same: the pages say what it may not do.
    if (!(error instanceof Problem && error.status === 403)) return leaveSession(error);
  }
  shell.refusal = null;
  location.hash = "#/";
  await open();
}

// Relative times grow older, also while nothing else changes.
setInterval(redraw, 10_000);
window.addEventListener("hashchange", open);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});
document.addEventListener("visibilitychange", redraw);
open();
