"""The expressions of the boards and of the alerts, as Prometheus can evaluate them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
BOARDS = sorted((MONITORING / "grafana").glob("*.json"))
METRIC = re.compile(r"\bflow_nexus_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def of_board(path: Path, training_id: str = "t") -> Iterator[tuple[str, str]]:
    """Yield the panel's title and each of its expressions, with the board's variables filled in."""
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel.get("targets", ()):
            filled = target["expr"].replace("$training", training_id).replace("$__rate_interval", "5m")
            assert "$" not in filled, "a variable that this does not know"
            yield panel["title"], filled


def of_alerts() -> dict[str, str]:
    """Return the expression of each alert, by its name."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def metrics_of(expression: str) -> set[str]:
    """Return the metrics of an expression. Those of a histogram have its own name."""
    return {_SUFFIX.sub("", name) for name in METRIC.findall(expression)}
