// One training, live: its curves, its workers, where the time of each round goes, what is wrong.

import * as actions from "../lib/actions.js";
import { api } from "../lib/api.js";
import { bars, lines } from "../lib/charts.js";
import { merge } from "../lib/curves.js";
import { h } from "../lib/dom.js";
import { bytes, figure, number, percent, seconds, usd, words } from "../lib/format.js";
import { live } from "../lib/live.js";
import { tryIt } from "../lib/tryit.js";
import { badge, button, card, empty, id, link, loading, meter, problem, stat, stats, table, time } from "../lib/parts.js";

const ENDED = ["completed", "refused", "stopped", "failed"];
const PHASES = [
  { name: "training", colour: "--c1" },
  { name: "transfer and waiting", colour: "--c6" },
  { name: "consensus", colour: "--c3" },
  { name: "aggregation", colour: "--c2" },
  { name: "evaluation", colour: "--c7" },
];

/** Colours of workers: none that looks like the one of the worst worker. */
const CALM = ["--c1", "--c3", "--c6", "--c5", "--c8", "--c7"];

/** @typedef {import("../lib/types.js").Training} Training */
/** @typedef {import("../lib/types.js").Curves} Curves */
/** @typedef {import("../lib/types.js").Round} Round */
/** @typedef {import("../lib/types.js").ClusterStatus["training_sessions"][number]} Session */
/** @typedef {{training: Training, session: Session | null, round: Round | null, budget: number | null}} Shown */

/** @param {import("../lib/context.js").Context} ctx */
export default function trainingPage(ctx) {
  const trainingId = ctx.params[0];
  const base = `/v1/trainings/${trainingId}`;
  /** @type {Shown | null} */
  let shown = null;
  /** @type {Curves | null} */
  let curves = null;
  /** @type {ReturnType<typeof charts> | null} */
  let drawn = null;
  /** @type {ReturnType<typeof tryIt> | null} */
  let trying = null;

  const refresh = ctx.every(4000, async (signal) => {
    const training = await api(base, { signal });
    const status = await api(`/v1/clusters/${training.cluster_id}/status`, { signal });
    const before = curves;
    curves = await newest(base, curves, signal);
    if (curves !== before || !drawn) drawn = charts(curves);
    const page = training.completed_rounds ? await api(`${base}/rounds?limit=2&cursor=${training.completed_rounds - 1}`, { signal }) : { items: [] };
    const session = status.training_sessions.find((/** @type {Session} */ one) => one.training_id === trainingId) ?? null;
    trying ??= tryIt(ctx, training);
    shown = { training, session, round: page.items[0] ?? null, budget: training.config.budget_usd };
  });
  let waiting = 0;
  const events = live(ctx, `${base}/events`, {
    isOver: () => ENDED.includes(shown?.training.status ?? ""),
    onEvent: () => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 200);
    },
  });

  return () => {
    if (!shown || !drawn || !curves) return [h("h1", { tabindex: "-1" }, "Training"), ctx.shown.problem ? null : loading()];
    const { training, session, round } = shown;
    return [
      head(ctx, training, events.state(), refresh),
      training.error ? problem({ title: words(training.status), message: training.error.detail, code: training.error.code }) : null,
      figures(shown, curves),
      preparation(training.preparation),
      flags((session && "red_flags" in session && session.red_flags) || []),
      curves.rounds.length ? h("div", { class: "grid" }, drawn.loss, drawn.accuracy) : empty("No round is done yet.", "The curves begin with the first round. Until then the workers read and check their data."),
      curves.rounds.length ? h("div", { class: "grid" }, drawn.workers, drawn.phases) : null,
      training.completed_rounds ? trying?.() : null,
      round ? roundCard(round) : null,
      h("div", { class: "grid" }, events.view(), options(training)),
    ];
  };
}

/** The curves with all rounds so far. @param {string} base @param {Curves | null} known @param {AbortSignal} signal @returns {Promise<Curves>} */
async function newest(base, known, signal) {
  const more = await api(`${base}/curves?after=${known?.rounds.at(-1) ?? 0}`, { signal });
  const merged = merge(known, more);
  return more.next_after === null ? merged : newest(base, merged, signal);
}

/**
 * @param {import("../lib/context.js").Context} ctx
 * @param {Training} training
 * @param {import("../lib/dom.js").Loose} state
 * @param {() => void} refresh
 */
function head(ctx, training, state, refresh) {
  const runs = ["pending", "training"].includes(training.status);
  return h(
    "div",
    { class: "page-head" },
    h(
      "div",
      null,
      h("p", { class: "crumbs" }, link("/trainings", "Trainings"), " · ", link(`/clusters/${training.cluster_id}`, "its cluster"), training.search_id ? [" · ", link(`/searches/${training.search_id}`, "its search")] : null),
      h("h1", { tabindex: "-1" }, training.training_id),
      h("div", { class: "facts" }, badge(training.status), ENDED.includes(training.status) ? null : state, h("span", null, `${training.workers.length} workers`), h("span", null, training.config.strategy), h("span", null, "created ", time(training.created_at)), training.stop_reason ? h("span", null, training.stop_reason.detail) : null),
    ),
    h(
      "div",
      { class: "actions" },
      runs ? button("Stop", () => actions.stop(ctx, training, refresh), { kind: "danger" }) : null,
      ["stopped", "failed", "completed"].includes(training.status) ? button(training.status === "completed" ? "Extend" : "Resume", () => actions.resume(ctx, training, refresh)) : null,
      button("Export the model", () => actions.exportModel(training), { disabled: !training.completed_rounds, kind: training.status === "completed" ? "primary" : "" }),
    ),
  );
}

/** @param {Shown} shown @param {Curves} curves */
function figures({ training, session, budget }, curves) {
  const last = (/** @type {(number | null)[]} */ values) => values.at(-1) ?? null;
  const total = training.config.epochs;
  const epoch = session?.epoch ?? last(curves.epochs) ?? 0;
  const cost = session?.cost_usd ?? null;
  const epsilon = training.privacy?.epsilon ?? null;
  return card(
    null,
    {},
    stats(
      stat("Epoch", `${epoch} / ${total}`),
      stat("Loss", figure(last(curves.global_loss))),
      stat("Training accuracy", percent(last(curves.global_accuracy))),
      stat("Validation accuracy", percent(last(curves.validation_accuracy))),
      stat("Time", seconds(session?.elapsed_seconds), ENDED.includes(training.status) ? null : session?.remaining_seconds == null ? "time left not known yet" : `${seconds(session.remaining_seconds)} left`),
      stat("Cost", usd(cost), budget === null ? "no budget" : `of ${usd(budget)}`),
      epsilon === null ? null : stat("Epsilon spent", figure(epsilon), `delta ${training.privacy?.delta.toExponential(1)}`),
    ),
    meter(epoch, total, "Epochs"),
  );
}

/** @param {Training["preparation"]} preparation */
function preparation(preparation) {
  if (!preparation) return null;
  return card("The workers read their data", { note: percent(preparation.progress) }, meter(preparation.progress, 1, "Data read"));
}

/** @param {any[]} found */
function flags(found) {
  if (!found.length) return null;
  return card(
    "Red flags",
    {},
    found.map((flag) => h("div", { class: "flag" }, h("p", null, h("strong", null, flag.message)), h("p", null, flag.suggestion), h("p", { class: "note" }, `${words(flag.code)}${flag.round ? `, since round ${flag.round}` : ""}`))),
  );
}

/** The charts, made again only when a round was added. @param {Curves} curves */
function charts(curves) {
  const along = (/** @type {(number | null)[]} */ values) => curves.epochs.map((/** @type {number} */ epoch, /** @type {number} */ index) => /** @type {[number, number | null]} */ ([epoch, values[index]]));
  const share = (/** @type {number} */ value) => `${Math.round(value * 100)} %`;
  const workers = Object.entries(curves.workers);
  const worst = worstWorker(curves);
  const part = (/** @type {number} */ index) => {
    const known = [curves.train_seconds[index], curves.consensus_seconds[index], curves.aggregate_seconds[index], curves.evaluate_seconds[index]];
    const whole = curves.seconds[index];
    const rest = whole === null ? null : Math.max(0, known.reduce((/** @type {number} */ left, value) => left - (value ?? 0), whole));
    return [known[0], rest, known[1], known[2], known[3]];
  };
  return {
    loss: card(
      "Loss",
      { note: "by epoch" },
      lines({ title: "Loss by epoch", xName: "epoch", lines: [{ name: "training", colour: "--c1", points: along(curves.global_loss) }, { name: "validation", colour: "--c2", dash: "5 3", points: along(curves.validation_loss) }] }),
    ),
    accuracy: card(
      "Accuracy",
      { note: "by epoch" },
      lines({ title: "Accuracy by epoch", xName: "epoch", yText: share, lines: [{ name: "training", colour: "--c1", points: along(curves.global_accuracy) }, { name: "validation", colour: "--c2", dash: "5 3", points: along(curves.validation_accuracy) }] }),
    ),
    workers: card(
      "Loss of each worker",
      { note: worst ? `${worst} is the worst in the last round` : `${workers.length} workers` },
      lines({
        title: "Loss of each worker by epoch",
        xName: "epoch",
        lines: [
          ...workers.filter(([node]) => node !== worst).map(([node, own], index) => ({ name: node, colour: workers.length > 8 ? "--c1" : CALM[index % CALM.length], thin: workers.length > 8, points: along(own.local_loss) })),
          ...workers.filter(([node]) => node === worst).map(([node, own]) => ({ name: `${node} (worst)`, colour: "--bad", strong: true, points: along(own.local_loss) })),
        ],
      }),
    ),
    phases: card(
      "Where the time of a round goes",
      { note: "seconds of each round" },
      bars({ title: "Seconds of each round by phase", xName: "round", parts: PHASES, yText: seconds, bars: curves.rounds.map((/** @type {number} */ round, /** @type {number} */ index) => ({ x: round, values: part(index) })) }),
    ),
  };
}

/** The worker with the highest loss in the last round. @param {Curves} curves @returns {string | null} */
function worstWorker(curves) {
  let worst = null;
  let highest = -Infinity;
  for (const [node, own] of Object.entries(curves.workers)) {
    const loss = own.local_loss.at(-1);
    if (loss !== null && loss !== undefined && loss > highest) [worst, highest] = [node, loss];
  }
  return Object.keys(curves.workers).length > 1 ? worst : null;
}

/** @param {Round} round */
function roundCard(round) {
  const rows = Object.entries(round.workers).map(([node, worker]) => ({ node, ...worker }));
  const decisions = rows.flatMap((row) => row.decisions.map((one) => ({ node: row.node, ...one })));
  return card(
    `Round ${round.round}`,
    { note: [round.data_path, round.fallback ?? round.data_path_reason, round.bytes_received === null ? null : `${bytes(round.bytes_received)} received`].filter(Boolean).join(" · "), actions: badge(round.status) },
    table(
      `Workers in round ${round.round}`,
      [
        { name: "Worker", wide: true, of: (row) => id(row.node) },
        { name: "State", of: (row) => [badge(row.state), row.reason ? h("small", { class: "reason" }, row.reason) : null] },
        { name: "Samples", number: true, of: (row) => number(row.samples) },
        { name: "Loss", number: true, of: (row) => figure(row.local_loss) },
        { name: "Accuracy", number: true, of: (row) => percent(row.local_accuracy) },
        { name: "Trained", number: true, of: (row) => seconds(row.train_seconds) },
        { name: "Sent", number: true, of: (row) => bytes(row.bytes_sent) },
      ],
      rows,
    ),
    round.notices.map((/** @type {string} */ notice) => h("p", { class: "note" }, notice)),
    listOf("Votes", round.votes),
    listOf("Audits", round.audits),
    listOf("Decisions of nodes", decisions),
  );
}

/** @param {string} title @param {any[]} found */
function listOf(title, found) {
  if (!found.length) return null;
  return h(
    "details",
    { class: "more" },
    h("summary", null, `${title} (${found.length})`),
    h("ul", null, found.map((one) => h("li", null, Object.entries(one).map(([name, value]) => h("span", { class: "fact" }, h("span", { class: "quiet" }, `${words(name)} `), typeof value === "object" ? JSON.stringify(value) : String(value)))))),
  );
}

/** @param {Training} training */
function options(training) {
  const shown = Object.entries(training.config).filter(([, value]) => value !== null && value !== false && !(Array.isArray(value) && !value.length));
  return card(
    "Options",
    { note: training.parameters ? `${number(training.parameters)} trainable parameters` : null },
    h("dl", { class: "pairs" }, shown.map(([name, value]) => [h("dt", null, words(name)), h("dd", null, typeof value === "object" ? JSON.stringify(value) : String(value))]), training.labels ? [h("dt", null, "Classes"), h("dd", null, training.labels.join(", "))] : null),
  );
}
