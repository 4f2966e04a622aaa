// One search: its trials, the metric over each option, and the trials that were stopped.

import { openAction } from "../lib/dialog.js";
import { api } from "../lib/api.js";
import { dots } from "../lib/dots.js";
import { h } from "../lib/dom.js";
import { figure, number, usd, words } from "../lib/format.js";
import { badge, button, card, id, link, loading, problem, stat, stats, table, time } from "../lib/parts.js";

const ENDED = ["completed", "stopped", "failed"];

/** @param {import("../lib/context.js").Context} ctx */
export default function searchPage(ctx) {
  const [searchId] = ctx.params;
  /** @type {import("../lib/types.js").Search | null} */
  let search = null;
  const refresh = ctx.every(3000, async (signal) => {
    search = await api(`/v1/searches/${searchId}`, { signal });
  });
  const stop = () =>
    openAction({
      title: "Stop the search?",
      text: "The current training is stopped and no other begins. Measured results stay.",
      submit: "Stop the search",
      danger: true,
      request: () => ({ path: `/v1/searches/${searchId}/stop`, method: "POST" }),
      done: () => (ctx.notify("The search is being stopped."), refresh()),
    });

  return () => {
    if (!search) return [h("h1", { tabindex: "-1" }, "Search"), ctx.shown.problem ? null : loading()];
    const own = search;
    const trained = own.trials.filter((one) => one.training_id);
    const ids = trained.map((one) => one.training_id).slice(0, 8);
    return [
      h(
        "div",
        { class: "page-head" },
        h("div", null, h("p", { class: "crumbs" }, link("/searches", "Searches"), " · ", link(`/clusters/${search.cluster_id}`, "its cluster")), h("h1", { tabindex: "-1" }, search.search_id), h("div", { class: "facts" }, badge(search.status), h("span", null, search.method), h("span", null, "created ", time(search.created_at)), search.stop_reason ? h("span", null, search.stop_reason.detail) : null)),
        h("div", { class: "actions" }, ids.length > 1 ? link(`/compare?ids=${ids.join(",")}`, "Compare its trainings") : null, ENDED.includes(search.status) ? null : button("Stop", stop, { kind: "danger" })),
      ),
      search.error ? problem({ title: "Failed", message: search.error.detail, code: search.error.code }) : null,
      card(null, {}, stats(stat("Trained", `${trained.length} / ${search.trials.length}`), stat(`Best ${words(own.metric).toLowerCase()}`, figure(search.best_metric)), stat("Cost", usd(search.cost_usd), search.budget_usd === null ? "no budget" : `of ${usd(search.budget_usd)}`), stat("Early stopping", search.early_stopping))),
      h("div", { class: "grid" }, Object.keys(own.space).map((name) => card(words(name), { note: words(own.metric).toLowerCase() }, dots(name, own.metric, points(own, name))))),
      card(
        "Trials",
        {},
        table(
          "Trials of the search",
          [
            { name: "Options", wide: true, of: (one) => Object.entries(one.options).map(([name, value]) => h("span", { class: "fact" }, h("span", { class: "quiet" }, `${words(name)} `), String(value))) },
            { name: "Status", of: (one) => [badge(one.status), one.stop_reason ? h("small", { class: "reason" }, one.stop_reason.detail) : null, one.error ? h("small", { class: "reason" }, one.error.detail) : null] },
            { name: words(own.metric), number: true, of: (one) => (one.training_id && one.training_id === own.best_training_id ? h("strong", null, `${figure(one.metric)} best`) : figure(one.metric)) },
            { name: "Epochs", number: true, of: (one) => number(one.epochs) },
            { name: "Training", of: (one) => (one.training_id ? link(`/trainings/${one.training_id}`, one.training_id) : "–") },
          ],
          search.trials,
        ),
      ),
      card("Space", {}, h("dl", { class: "pairs" }, Object.entries(search.space).map(([name, values]) => [h("dt", null, words(name)), h("dd", null, id(JSON.stringify(values)))]))),
    ];
  };
}

/** @param {import("../lib/types.js").Search} search @param {string} name */
const points = (search, name) =>
  search.trials
    .filter((one) => one.metric !== null)
    .map((one) => ({ x: one.options[name], y: /** @type {number} */ (one.metric), best: one.training_id === search.best_training_id, stopped: one.status === "stopped" || one.stop_reason?.code === "early_stopped" }));
