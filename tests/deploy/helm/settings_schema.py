"""What `settings` in the chart's values may hold: the settings of the deployment.

`python -m tests.deploy.helm.settings_schema` writes it into the chart's schema.
"""

import json
from typing import Any

from api.settings import Settings
from tests.deploy.tools import ROOT

FILE = ROOT / "deploy/helm/flow-nexus/values.schema.json"

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
    properties = {
        name: _property(found) for name, found in _properties().items() if name not in given and not _is_secret(found)
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _properties() -> dict[str, dict[str, Any]]:
    found = Settings.model_json_schema()["properties"]
    return {name.removeprefix(_PREFIX).upper(): value for name, value in found.items()}


def _is_secret(found: dict[str, Any]) -> bool:
    return any(form.get("writeOnly") for form in found.get("anyOf", [found]))


def _property(found: dict[str, Any]) -> dict[str, Any]:
    forms = found.get("anyOf", [found])
    if any(form["type"] == "number" for form in forms):
        forms = [form for form in forms if form["type"] != "string"]
    written = [_form(form) for form in forms]
    return written[0] if len(written) == 1 else {"anyOf": written}


def _form(form: dict[str, Any]) -> dict[str, Any]:
    if form["type"] == "null":
        return NO_LIMIT
    if form["type"] == "array":
        # The environment has a list as one word with commas.
        return {"type": "string", "pattern": r"^\S*$"}
    kept = ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return {name: form[name] for name in kept if name in form}


def main() -> None:
    schema = json.loads(FILE.read_text())
    schema["properties"]["settings"] = settings_schema()
    FILE.write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    main()
