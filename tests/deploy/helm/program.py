"""Lint, render and check the chart, with the tools of `make deploy-tools`.

It runs in their environment, so it imports nothing of this project. It reads one JSON object from
stdin: `chart`, and `cases` by name, each with `values` and where it stands. It prints, for each
case, the manifests and what is wrong with them, or why the values were refused.
"""

import json
import sys
from typing import Any

import helm_python
import kubernetes_validate
import yaml

KUBERNETES = "1.37.0"
# Kinds that Kubernetes learns from others.
CUSTOM = {"ServiceMonitor", "HTTPRoute"}


def main() -> None:
    request = json.load(sys.stdin)
    with helm_python.Chart.load(request["chart"]) as chart:
        answers = {name: answer(chart, request["chart"], case) for name, case in request["cases"].items()}
    json.dump(answers, sys.stdout)


def answer(chart: helm_python.Chart, path: str, case: dict[str, Any]) -> dict[str, Any]:
    values = yaml.safe_load(case["values"]) or {}
    try:
        chart.validate_schema(values)
        rendered = chart.render(values, name=case["release"], namespace=case["namespace"])
    except helm_python.HelmError as error:
        return {"refused": str(error)}
    notes = [text for name, text in rendered.items() if name.endswith("NOTES.txt")]
    manifests = [
        manifest
        for name, text in rendered.items()
        if name.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]
    lint = helm_python.lint(path, values, strict=True, namespace=case["namespace"])
    return {"manifests": manifests, "notes": notes[0], "lint": lint, "invalid": list(filter(None, map(problem, manifests)))}


def problem(manifest: dict[str, Any]) -> str | None:
    """Return what the schemas of Kubernetes refuse in a manifest, or None."""
    if manifest["kind"] in CUSTOM:
        return None
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{manifest['kind']} {manifest['metadata']['name']}: {list(error.path)}: {error.message}"
    return None


if __name__ == "__main__":
    main()
