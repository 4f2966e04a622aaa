// Events in one sentence each.

import { figure, percent, seconds, words } from "./format.js";

/** @type {Record<string, (data: any) => string>} */
const SENTENCES = {
  "round.completed": (data) =>
    `Round ${data.round} is done: loss ${figure(data.global_loss)}, accuracy ${percent(data.global_accuracy)}` +
    `${data.validation_accuracy == null ? "" : `, validation ${percent(data.validation_accuracy)}`} in ${seconds(data.seconds)}.`,
  "round.started": (data) => `Round ${data.round} began with ${data.workers?.length ?? data.workers ?? "some"} workers.`,
  "training.red_flag": (data) => `${data.message} ${data.suggestion ?? ""}`,
  "training.preparing": (data) => `The data is being read: ${percent(data.progress)}.`,
  "training.worker_joined": (data) => `${data.node_id} joined and takes part from round ${data.round}.`,
  "training.aggregator_promoted": (data) => `${data.to} was elected as the new aggregator.`,
  "node.decision": (data) => `${data.node_id} decided: ${words(String(data.action ?? ""))}. ${data.reason ?? ""}`,
  "node.running": (data) => `${data.node_id} runs.`,
  "node.flagged": (data) => `An update of ${data.node_id} was rejected: ${data.reason}`,
  "cluster.connected": (data) => `The cluster is connected${data.topology ? ` as a ${data.topology}` : ""}.`,
  "cluster.budget_warning": (data) => `80 % of the budget of $${data.budget_usd} is spent.`,
  "model.completed": (data) => `The model ${data.name ?? data.model_id} is exported.`,
};
const BAD = /failed|lost|refused|rejected|red_flag|flagged|gone|budget|late/;

/** @param {{type: string, data: any}} event */
export function sentence({ type, data }) {
  const told = SENTENCES[type]?.(data);
  if (told) return told;
  const thing = data.node_id ?? data.prediction_id ?? data.model_id ?? data.execution_id ?? data.search_id ?? data.training_id ?? data.cluster_id;
  const why = data.reason ?? data.error?.detail ?? data.detail ?? data.stop_reason?.detail ?? "";
  return [thing, data.status ? `is ${data.status}.` : `${words(type.split(".")[1] ?? type).toLowerCase()}.`, why].filter(Boolean).join(" ");
}

/** @param {string} type */
export const isBad = (type) => BAD.test(type);
