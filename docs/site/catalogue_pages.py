"""The pages of the error codes and of the event types, from their catalogues."""

from api.domain.events import MEANINGS
from api.domain.problem_codes import CATALOGUE
from api.schemas.events.union import MODELS

_BASE = ("id", "cluster_id", "training_id", "time", "type")


def render_errors() -> str:
    lines = [
        "# Errors",
        "",
        "Every error is `application/problem+json` (RFC 9457). Its `code` is stable, and meant for programs.",
        "`detail` says what is wrong in this request, and `errors` says where.",
        "`GET /problems/{code}` of a running service answers what this page says. A new version may have new codes.",
        "",
        "| code | what it means | what to do |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{code}` | {_cell(entry.meaning)} | {_cell(entry.advice)} |" for code, entry in sorted(CATALOGUE.items())]
    return "\n".join([*lines, ""])


def render_events() -> str:
    lines = [
        "# Events",
        "",
        "Streams, pages and `flow-nexus` show these events. Each has `id`, `type`, `cluster_id`, `training_id` and `time`.",
        "A field that is not known is null. `ClusterEvent` in the [API](api.md) has the types of the fields.",
        "",
        "| type | what has happened | further fields |",
        "| --- | --- | --- |",
    ]
    for event_type, meaning in MEANINGS.items():
        fields = [field.alias or name for name, field in MODELS[event_type].model_fields.items()]
        own = ", ".join(f"`{name}`" for name in fields if name not in _BASE)
        lines.append(f"| `{event_type.value}` | {_cell(meaning)} | {own} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
