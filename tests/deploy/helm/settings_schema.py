"""What `settings` in the chart's values may hold: the settings of the deployment."""

from typing import Any

from api.settings import Settings

# The chart sets these from other values, or from Secrets.
SET_BY_THE_CHART = {
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "MODELS_DIR",
    "E2B_API_KEY",
    "E2B_API_URL",
    "E2B_SANDBOX_URL",
    "E2B_DOMAIN",
    "E2B_HTTP_VERSION",
    "DATABASE_POOL_SIZE",
}
# A container writes its log to stdout. The root of its file system is read-only.
NOT_IN_A_CONTAINER = {"LOGS_DIR", "RETENTION_LOGS_DAYS"}
# The word for no limit. Helm drops a value that is null itself.
NO_LIMIT = {"const": "null"}
_PREFIX = "FLOW_NEXUS_"


def names() -> set[str]:
    """Return the names of all settings, without their prefix."""
    return set(_properties())


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the chart's `settings`."""
    given = SET_BY_THE_CHART | NOT_IN_A_CONTAINER
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(found) for name, found in _properties().items() if name not in given},
    }


def _properties() -> dict[str, dict[str, Any]]:
    found = Settings.model_json_schema()["properties"]
    return {name.removeprefix(_PREFIX).upper(): value for name, value in found.items()}


def _property(found: dict[str, Any]) -> dict[str, Any]:
    forms = found.get("anyOf", [found])
    if any(form["type"] == "number" for form in forms):
        forms = [form for form in forms if form["type"] != "string"]
    written = [_form(form) for form in forms]
    return written[0] if len(written) == 1 else {"anyOf": written}


def _form(form: dict[str, Any]) -> dict[str, Any]:
    if form["type"] == "null":
        return NO_LIMIT
    kept = ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return {name: form[name] for name in kept if name in form}
