"""How the API's answers look to people. Each function takes the JSON as it came; what is missing shows as a dash."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.cli.output.printing import cell, facts, percent, plain, status, table, usd

Json = dict[str, Any]


def _when(value: Any) -> Text:
    """`2025-11-02T14:30:00.123Z` without the parts that nobody reads."""
    return cell(value and str(value)[:19].replace("T", " "), "dim")


def why(error: Any) -> Text:
    """Why something failed: the API keeps `code` and `detail`."""
    if not isinstance(error, dict):
        return cell(error, "red")
    words = error.get("detail") or error.get("message")
    return Text(plain(f"{words} ({error.get('code')})"), style="red")


def ended_early(reason: Json) -> Text:
    return Text(plain(f"ended early: {reason.get('detail')} ({reason.get('code')})"), style="yellow")


def _gigabytes(value: Any) -> Text:
    return cell(None if value is None else f"{value:g} GB")


def clusters(page: Json) -> Table:
    rows = (
        (
            cell(item["cluster_id"]),
            cell(item["name"]),
            cell(item["topology"]),
            status(item["status"]),
            _when(item["created_at"]),
        )
        for item in page["items"]
    )
    return table(("cluster", "name", "topology", "status", "created"), rows)


def cluster(item: Json) -> Table:
    pairs = [("cluster", cell(item["cluster_id"], "bold")), ("name", cell(item["name"])), ("topology", cell(item["topology"]))]
    pairs += [("status", status(item["status"])), ("created", _when(item["created_at"]))]
    pairs += [(name.replace("_", " "), cell(value)) for name, value in item.get("config", {}).items()]
    if "cost_usd" in item:
        pairs.append(("cost", usd(item["cost_usd"])))
    return facts(pairs)


def connections(item: Json) -> RenderableType:
    rows = ((cell(edge["from"]), Text("→", style="dim"), cell(edge["to"])) for edge in item["connections"])
    head = facts(
        [
            ("cluster", cell(item["cluster_id"], "bold")),
            ("topology", cell(item["topology"])),
            ("status", status(item["status"])),
        ]
    )
    return Group(head, Text(), table(("from", "", "to"), rows))


def nodes(page: Json) -> Table:
    rows = (
        (
            cell(item["node_id"]),
            cell(item["role"]),
            status(item["status"]),
            cell(item["sandbox_id"]),
            cell(item["capabilities"]),
        )
        for item in page["items"]
    )
    return table(("node", "role", "status", "sandbox", "capabilities"), rows)


def node(item: Json) -> Table:
    resources = item.get("resources") or {}
    pairs = [("node", cell(item["node_id"], "bold")), ("sandbox", cell(item["sandbox_id"])), ("role", cell(item["role"]))]
    pairs += [("status", status(item["status"])), ("autonomy", cell(item["autonomy_level"]))]
    pairs += [("capabilities", cell(item["capabilities"])), ("cores", cell(resources.get("cpu_cores")))]
    pairs += [("memory", _gigabytes(resources.get("memory_gb"))), ("gpu", cell(resources.get("gpu")))]
    if flag := item.get("rejected_updates"):
        pairs.append(
            ("rejected updates", cell(f"{flag['count']}, the last in round {flag['last_round']}: {flag['last_reason']}"))
        )
    if item.get("error"):
        pairs.append(("error", why(item["error"])))
    return facts(pairs)


def trainings(page: Json) -> Table:
    rows = (
        (
            cell(item["training_id"]),
            cell(item["cluster_id"]),
            status(item["status"]),
            cell(item["config"]["epochs"]),
            _when(item.get("created_at")),
        )
        for item in page["items"]
    )
    return table(("training", "cluster", "status", "epochs", "created"), rows, right=("epochs",))


def training(item: Json) -> Table:
    pairs = [
        ("training", cell(item["training_id"], "bold")),
        ("cluster", cell(item["cluster_id"])),
        ("status", status(item["status"])),
    ]
    pairs += [(name.replace("_", " "), cell(value)) for name, value in item["config"].items() if value is not None]
    pairs += [("workers", cell(item["workers"])), ("aggregator", cell(item["aggregator"]))]
    if privacy := item.get("privacy"):
        pairs.append(("epsilon", cell(f"{privacy['epsilon']:.2f} at delta {privacy['delta']:.1e}")))
    if item.get("stop_reason"):
        pairs.append(("reason", ended_early(item["stop_reason"])))
    if item.get("error"):
        pairs.append(("error", why(item["error"])))
    return facts(pairs)


def searches(page: Json) -> Table:
    rows = (
        (
            cell(item["search_id"]),
            cell(item["cluster_id"]),
            status(item["status"]),
            cell(f"{sum(trial['training_id'] is not None for trial in item['trials'])}/{len(item['trials'])}"),
            _metric(item["metric"], item["best_metric"]),
            _options(item["best_options"]),
            _when(item["created_at"]),
        )
        for item in page["items"]
    )
    return table(("search", "cluster", "status", "trainings", "best", "with", "created"), rows, right=("trainings", "best"))


def search(item: Json) -> RenderableType:
    pairs = [("search", cell(item["search_id"], "bold")), ("cluster", cell(item["cluster_id"]))]
    pairs += [("status", status(item["status"])), ("method", cell(item["method"])), ("metric", cell(item["metric"]))]
    pairs += [("early stopping", cell(item["early_stopping"])), ("cost", usd(item["cost_usd"]))]
    if item.get("stop_reason"):
        pairs.append(("reason", ended_early(item["stop_reason"])))
    if item.get("error"):
        pairs.append(("error", why(item["error"])))
    if item["best_training_id"]:
        best = Text.assemble(_metric(item["metric"], item["best_metric"]), "  ", _options(item["best_options"]))
        pairs.append(("best", Text.assemble(best, (f"  {plain(item['best_training_id'])}", "dim"))))
    names = list(item["space"])
    rows = (
        (
            cell(
                str(number), "bold green" if trial["training_id"] and trial["training_id"] == item["best_training_id"] else ""
            ),
            *(cell(trial["options"].get(name)) for name in names),
            status(trial["status"]),
            _metric(item["metric"], trial["metric"]),
            cell(trial["epochs"]),
            cell(trial["training_id"]),
            _why_ended(trial),
        )
        for number, trial in enumerate(item["trials"], 1)
    )
    words = (plain(name.replace("_", " ")) for name in names)
    columns = ("", *words, "status", "metric", "epochs", "training", "reason")
    return Group(facts(pairs), Text(), table(columns, rows, right=("metric", "epochs")))


def _metric(name: str, value: Any) -> Text:
    return percent(value) if name.endswith("accuracy") else cell(value)


def _options(options: Json | None) -> Text:
    return cell(options and ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items()))


def _why_ended(trial: Json) -> Text:
    found = trial.get("error") or trial.get("stop_reason")
    return cell(found and found.get("code"), "dim")


def rounds(page: Json) -> Table:
    rows = (
        (
            cell(item.get("round")),
            status(item.get("status")),
            cell(item.get("global_loss")),
            percent(item.get("global_accuracy")),
            percent(item.get("validation_accuracy")),
            cell(item.get("seconds")),
        )
        for item in page["items"]
    )
    numbers = ("round", "loss", "accuracy", "validation", "seconds")
    return table(("round", "status", *numbers[1:]), rows, right=numbers)


def prediction(item: Json) -> RenderableType:
    results = item.get("results") or {}
    head = [("prediction", cell(item["prediction_id"], "bold")), ("status", status(item.get("status")))]
    head += [("aggregation", cell(item["aggregation"]))]
    head += [(name, percent(results.get(key))) for name, key in _SCORES if results.get(key) is not None]
    head += [("time", cell(item["inference_time"])), ("nodes", cell(item["nodes_used"]))]
    if item.get("error"):
        head.append(("error", why(item["error"])))
    texts = results.get("predictions") or []
    if not texts:
        return facts(head)
    rows = ((cell(one["sentiment"]), percent(one["confidence"]), cell(one["text"])) for one in texts[:_SHOWN])
    parts: list[RenderableType] = [facts(head), Text(), table(("sentiment", "confidence", "text"), rows, right=("confidence",))]
    if len(texts) > _SHOWN:
        parts.append(Text(f"… and {len(texts) - _SHOWN} more; --format json shows all", style="dim"))
    return Group(*parts)


_SHOWN = 20
_SCORES = (("accuracy", "accuracy"), ("precision", "precision"), ("recall", "recall"), ("F1", "f1_score"))


def models(page: Json) -> Table:
    rows = (
        (
            cell(item["model_id"]),
            cell(item["name"]),
            status(item["status"]),
            cell(item["training_id"]),
            _when(item.get("created_at")),
        )
        for item in page["items"]
    )
    return table(("model", "name", "status", "training", "created"), rows)


def model(item: Json) -> Table:
    pairs = [("model", cell(item["model_id"], "bold")), ("name", cell(item["name"])), ("status", status(item["status"]))]
    pairs += [("training", cell(item["training_id"])), ("path", cell(item.get("path")))]
    if item.get("error"):
        pairs.append(("error", why(item["error"])))
    return facts(pairs)


def sandboxes(page: Json) -> Table:
    rows = (
        (
            cell(item["sandbox_id"]),
            status(item["status"]),
            cell(item.get("node_id")),
            cell(item.get("template")),
            _when(item.get("started_at")),
        )
        for item in page["items"]
    )
    return table(("sandbox", "status", "node", "template", "started"), rows)


def keys(page: Json) -> Table:
    rows = (
        (
            cell(item["key_id"]),
            *((cell(item["project"]),) if "project" in item else ()),
            cell(item["name"]),
            cell(item["prefix"]),
            status(item["status"]),
            cell(item["node_id"] or item["scopes"]),
            _when(item["last_used_at"]),
        )
        for item in page["items"]
    )
    project = ("project",) if any("project" in item for item in page["items"]) else ()
    return table(("key", *project, "name", "begins", "status", "scopes or node", "last used"), rows)


def project(item: Json) -> RenderableType:
    rows = (
        (cell(name), cell(f"{quota['used']:,}"), cell(None if quota["limit"] is None else f"{quota['limit']:,}"))
        for name, quota in item["quotas"].items()
    )
    head = facts([("project", cell(item["name"], "bold")), ("id", cell(item["project_id"]))])
    return Group(head, Text(), table(("quota", "used", "limit"), rows, right=("used", "limit")))


def mapping(item: Json) -> Table:
    """Any flat answer: one line per field, nested objects indented by their name."""
    pairs: list[tuple[str, RenderableType]] = []
    for name, value in item.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            pairs += [(f"{words} {inner.replace('_', ' ')}", cell(part)) for inner, part in value.items()]
        else:
            pairs.append((words, status(value) if name == "status" else cell(value)))
    return facts(pairs)


def stored(item: Json) -> Text:
    """One line for a file that was moved."""
    return Text.assemble(plain(item.get("path") or item["local_path"]), ("  ", ""), (f"{item['size']:,} bytes", "dim"))


def logs(answer: Json) -> Text:
    """Log lines with their time and stream."""
    text = Text()
    for item in answer["lines"]:
        text.append(f"{plain(str(item['time'])[11:19])} ", "dim")
        text.append(f"{plain(item['stream'])} ", "red" if item["stream"] == "stderr" else "dim")
        text.append(f"{plain(item['line'])}\n")
    text.rstrip()
    return text
