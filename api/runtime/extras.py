"""Settings that need a package which is not always installed."""

from collections.abc import Mapping
from importlib.util import find_spec

# The setting, the module that it needs, and the extra of this project that installs it.
_NEEDED = (
    ("FLOW_NEXUS_MLFLOW_TRACKING_URI", "mlflow", "mlflow"),
    ("FLOW_NEXUS_OTLP_ENDPOINT", "opentelemetry.exporter", "otel"),
)


def missing(environment: Mapping[str, str]) -> str | None:
    """Return what to install for the settings in `environment`, or None."""
    for setting, module, extra in _NEEDED:
        if environment.get(setting, "null") != "null" and find_spec(module) is None:
            return f"{setting} is set, and the package {module} is not installed: install flow-nexus[{extra}]"
    return None
