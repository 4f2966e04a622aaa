"""Tables for people. Each function takes a parsed answer of the API; a missing value is a dash."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.cli.output.confusion import confusion
from api.cli.output.printing import cell, facts, percent, plain, status, table, usd
from api.cli.responses import (
    ApiKey,
    ClusterJson,
    ConnectionsJson,
    DeliveryJson,
    ExecutionJson,
    JsonObject,
    LogsJson,
    ModelJson,
    NodeJson,
    PageJson,
    PredictionJson,
    ProjectJson,
    Reason,
    ResourcesJson,
    RoundJson,
    SandboxJson,
    SearchJson,
    StoredFileJson,
    TrainingJson,
    TrialJson,
    WebhookJson,
)

_MAX_TEXTS = 20


def clusters(page: PageJson[ClusterJson]) -> Table:
    rows = (
        (cell(item.cluster_id), cell(item.name), cell(item.topology), status(item.status), _time(item.created_at))
        for item in page.items
    )
    return table(("cluster", "name", "topology", "status", "created"), rows)


def cluster(item: ClusterJson) -> Table:
    pairs = [("cluster", cell(item.cluster_id, "bold")), ("name", cell(item.name)), ("topology", cell(item.topology))]
    pairs += [("status", status(item.status)), ("created", _time(item.created_at))]
    pairs += [(_words(name), cell(value)) for name, value in item.config.items()]
    if item.cost_usd is not None:
        pairs.append(("cost", usd(item.cost_usd)))
    return facts(pairs)


def connections(item: ConnectionsJson) -> RenderableType:
    rows = ((cell(edge.from_), Text("→", style="dim"), cell(edge.to)) for edge in item.connections)
    head = facts(
        [("cluster", cell(item.cluster_id, "bold")), ("topology", cell(item.topology)), ("status", status(item.status))]
    )
    return Group(head, Text(), table(("from", "", "to"), rows))


def nodes(page: PageJson[NodeJson]) -> Table:
    rows = (
        (cell(item.node_id), cell(item.role), status(item.status), cell(item.sandbox_id), cell(item.capabilities))
        for item in page.items
    )
    return table(("node", "role", "status", "sandbox", "capabilities"), rows)


def node(item: NodeJson) -> Table:
    resources = item.resources or ResourcesJson()
    pairs = [("node", cell(item.node_id, "bold")), ("sandbox", cell(item.sandbox_id)), ("role", cell(item.role))]
    pairs += [("status", status(item.status)), ("autonomy", cell(item.autonomy_level))]
    pairs += [("capabilities", cell(item.capabilities)), ("cores", cell(resources.cpu_cores))]
    pairs += [("memory", _gigabytes(resources.memory_gb)), ("gpu", cell(resources.gpu))]
    if rejected := item.rejected_updates:
        text = f"{rejected.count}, the last in round {rejected.last_round}: {rejected.last_reason}"
        pairs.append(("rejected updates", cell(text)))
    pairs += _ending(None, item.error)
    return facts(pairs)


def trainings(page: PageJson[TrainingJson]) -> Table:
    rows = (
        (
            cell(item.training_id),
            cell(item.cluster_id),
            status(item.status),
            cell(item.config.epochs),
            _time(item.created_at),
        )
        for item in page.items
    )
    return table(("training", "cluster", "status", "epochs", "created"), rows, right=("epochs",))


def training(item: TrainingJson) -> Table:
    pairs = [
        ("training", cell(item.training_id, "bold")),
        ("cluster", cell(item.cluster_id)),
        ("status", status(item.status)),
    ]
    if item.preparation is not None:
        pairs.append(("data read", percent(item.preparation.progress)))
    pairs += [(_words(name), cell(value)) for name, value in vars(item.config).items() if value not in (None, [])]
    pairs += [("workers", cell(item.workers)), ("aggregator", cell(item.aggregator))]
    if (privacy := item.privacy) and privacy.epsilon is not None and privacy.delta is not None:
        pairs.append(("epsilon", cell(f"{privacy.epsilon:.2f} at delta {privacy.delta:.1e}")))
    pairs += _ending(item.stop_reason, item.error)
    return facts(pairs)


def searches(page: PageJson[SearchJson]) -> Table:
    rows = (
        (
            cell(item.search_id),
            cell(item.cluster_id),
            status(item.status),
            cell(f"{sum(trial.training_id is not None for trial in item.trials)}/{len(item.trials)}"),
            _metric(item.metric, item.best_metric),
            _options(item.best_options),
            _time(item.created_at),
        )
        for item in page.items
    )
    return table(("search", "cluster", "status", "trainings", "best", "with", "created"), rows, right=("trainings", "best"))


def search(item: SearchJson) -> RenderableType:
    pairs = [("search", cell(item.search_id, "bold")), ("cluster", cell(item.cluster_id))]
    pairs += [("status", status(item.status)), ("method", cell(item.method)), ("metric", cell(item.metric))]
    pairs += [("early stopping", cell(item.early_stopping)), ("cost", usd(item.cost_usd))]
    pairs += _ending(item.stop_reason, item.error)
    if item.best_training_id:
        best = Text.assemble(_metric(item.metric, item.best_metric), "  ", _options(item.best_options))
        pairs.append(("best", Text.assemble(best, (f"  {plain(item.best_training_id)}", "dim"))))
    return Group(facts(pairs), Text(), _trials(item))


def _trials(item: SearchJson) -> Table:
    names = list(item.space)
    rows = (
        (
            cell(str(number), "bold green" if trial.training_id and trial.training_id == item.best_training_id else ""),
            *(cell(trial.options.get(name)) for name in names),
            status(trial.status),
            _metric(item.metric, trial.metric),
            cell(trial.epochs),
            cell(trial.training_id),
            _end_code(trial),
        )
        for number, trial in enumerate(item.trials, 1)
    )
    options = (plain(_words(name)) for name in names)
    return table(("", *options, "status", "metric", "epochs", "training", "reason"), rows, right=("metric", "epochs"))


def rounds(page: PageJson[RoundJson]) -> Table:
    rows = (
        (
            cell(item.round),
            status(item.status),
            cell(item.global_loss),
            percent(item.global_accuracy),
            percent(item.validation_accuracy),
            cell(item.seconds),
        )
        for item in page.items
    )
    numbers = ("round", "loss", "accuracy", "validation", "seconds")
    return table(("round", "status", *numbers[1:]), rows, right=numbers)


def prediction(item: PredictionJson) -> RenderableType:
    head = [("prediction", cell(item.prediction_id, "bold")), ("status", status(item.status))]
    head += [("aggregation", cell(item.aggregation))]
    head += _progress(item)
    results = item.results
    if results:
        scores = {"accuracy": results.accuracy, "precision": results.precision}
        scores |= {"recall": results.recall, "F1": results.f1_score}
        head += [(name, percent(score)) for name, score in scores.items() if score is not None]
        head += [("notice", cell(notice)) for notice in results.notices]
    head += [("time", cell(item.inference_time)), ("nodes", cell(item.nodes_used))]
    head += _ending(None, item.error)
    parts: list[RenderableType] = [facts(head)]
    if results and results.confusion_matrix:
        parts += [Text(), confusion(results.confusion_matrix)]
    texts = results.predictions if results else []
    if texts:
        rows = ((cell(text.sentiment), percent(text.confidence), cell(text.text)) for text in texts[:_MAX_TEXTS])
        parts += [Text(), table(("sentiment", "confidence", "text"), rows, right=("confidence",))]
    if len(texts) > _MAX_TEXTS:
        parts.append(Text(f"… and {len(texts) - _MAX_TEXTS} more; --format json shows all", style="dim"))
    return Group(*parts)


def _progress(item: PredictionJson | ModelJson) -> list[tuple[str, Text]]:
    """Return how far pending work is, where that is known."""
    return [("progress", percent(item.progress))] if item.status == "pending" and item.progress is not None else []


def models(page: PageJson[ModelJson]) -> Table:
    rows = (
        (cell(item.model_id), cell(item.name), status(item.status), cell(item.training_id), _time(item.created_at))
        for item in page.items
    )
    return table(("model", "name", "status", "training", "created"), rows)


def model(item: ModelJson) -> Table:
    pairs = [("model", cell(item.model_id, "bold")), ("name", cell(item.name)), ("status", status(item.status))]
    pairs += _progress(item)
    pairs += [("training", cell(item.training_id)), ("path", cell(item.path))]
    pairs += _ending(None, item.error)
    return facts(pairs)


def sandboxes(page: PageJson[SandboxJson]) -> Table:
    rows = (
        (cell(item.sandbox_id), status(item.status), cell(item.node_id), cell(item.template), _time(item.started_at))
        for item in page.items
    )
    return table(("sandbox", "status", "node", "template", "started"), rows)


def keys(page: PageJson[ApiKey]) -> Table:
    """Return the keys, with their projects if they come from the database."""
    has_projects = any(item.project is not None for item in page.items)
    rows = (
        (
            cell(item.key_id),
            *((cell(item.project),) if has_projects else ()),
            cell(item.name),
            cell(item.prefix),
            status(item.status),
            cell(item.node_id or item.scopes),
            _time(item.last_used_at),
        )
        for item in page.items
    )
    project_column = ("project",) if has_projects else ()
    return table(("key", *project_column, "name", "prefix", "status", "scopes or node", "last used"), rows)


def webhooks(page: PageJson[WebhookJson]) -> Table:
    rows = (
        (
            cell(item.webhook_id),
            cell(item.name),
            cell(item.url),
            cell(item.event_types),
            cell("on" if item.enabled else "off"),
            _time(item.failing_since),
        )
        for item in page.items
    )
    return table(("webhook", "name", "address", "events", "state", "failing since"), rows)


def deliveries(page: PageJson[DeliveryJson]) -> Table:
    rows = (
        (
            cell(item.delivery_id),
            cell(item.event_type),
            status(item.status),
            cell(item.attempts),
            cell(item.status_code),
            cell(item.duration_ms),
            cell(item.error),
            _time(item.due_at),
        )
        for item in page.items
    )
    return table(("delivery", "event", "status", "attempts", "answer", "ms", "error", "next attempt"), rows)


def project(item: ProjectJson) -> RenderableType:
    rows = ((cell(name), _count(quota.used), _count(quota.limit)) for name, quota in item.quotas.items())
    head = facts([("project", cell(item.name, "bold")), ("id", cell(item.project_id))])
    return Group(head, Text(), table(("quota", "used", "limit"), rows, right=("used", "limit")))


def mapping(item: JsonObject) -> Table:
    """Return any flat answer, one line per field.

    The fields of a nested object have its name as a prefix.
    """
    pairs: list[tuple[str, RenderableType]] = []
    for name, value in item.items():
        if isinstance(value, dict):
            pairs += [(f"{_words(name)} {_words(inner)}", cell(part)) for inner, part in value.items()]
        else:
            pairs.append((_words(name), status(value) if name == "status" else cell(value)))
    return facts(pairs)


def uploaded(item: StoredFileJson) -> Text:
    return transferred(item.path, item.size)


def transferred(path: str | None, size: int | None) -> Text:
    """Return one line for a file that was uploaded or downloaded; `size` in bytes."""
    return Text.assemble(plain(path or "–"), ("  ", ""), (f"{_count(size)} bytes", "dim"))


def executions(page: PageJson[ExecutionJson]) -> Table:
    rows = (
        (cell(item.execution_id), status(item.status), cell(item.exit_code), cell(item.limit), _time(item.created_at))
        for item in page.items
    )
    return table(("execution", "status", "exit code", "limit", "created"), rows, right=("exit code",))


def execution(item: ExecutionJson) -> RenderableType:
    pairs = [
        ("execution", cell(item.execution_id, "bold")),
        ("status", status(item.status)),
        ("sandbox", cell(item.sandbox_id)),
    ]
    pairs += [("exit code", cell(item.exit_code)), ("limit", cell(item.limit))]
    pairs += [("started", _time(item.started_at)), ("ended", _time(item.ended_at))]
    pairs += [("stdout bytes", _count(item.stdout_bytes)), ("stderr bytes", _count(item.stderr_bytes))]
    return facts(pairs + _ending(None, item.error))


def logs(answer: LogsJson) -> Text:
    """Return log lines with their time and stream."""
    text = Text()
    for item in answer.lines:
        text.append(f"{plain((item.time or '')[11:19])} ", "dim")
        text.append(f"{plain(item.stream or '–')} ", "red" if item.stream == "stderr" else "dim")
        text.append(f"{plain(item.line)}\n")
    text.rstrip()
    return text


def failure(error: Reason) -> Text:
    """Return why something failed."""
    return Text(plain(f"{error.detail} ({error.code})"), style="red")


def early_end(reason: Reason) -> Text:
    """Return why something ended early."""
    return Text(plain(f"ended early: {reason.detail} ({reason.code})"), style="yellow")


def _ending(stop_reason: Reason | None, error: Reason | None) -> list[tuple[str, Text]]:
    pairs = [("reason", early_end(stop_reason))] if stop_reason else []
    return [*pairs, ("error", failure(error))] if error else pairs


def _end_code(trial: TrialJson) -> Text:
    reason = trial.error or trial.stop_reason
    return cell(reason and reason.code, "dim")


def _time(value: str | None) -> Text:
    """Return `2025-11-02T14:30:00.123Z` as `2025-11-02 14:30:00`."""
    return cell(value and value[:19].replace("T", " "), "dim")


def _gigabytes(value: float | None) -> Text:
    return cell(None if value is None else f"{value:g} GB")


def _count(value: float | None) -> Text:
    return cell(None if value is None else f"{value:,}")


def _metric(name: str, value: float | None) -> Text:
    return percent(value) if name.endswith("accuracy") else cell(value)


def _options(options: Mapping[str, object] | None) -> Text:
    return cell(options and ", ".join(f"{_words(name)} {value}" for name, value in options.items()))


def _words(name: str) -> str:
    """Return the name of a JSON field as words."""
    return name.replace("_", " ")
