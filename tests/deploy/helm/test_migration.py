"""The database is migrated before the release's other objects exist."""

import json
from typing import Any

from tests.deploy.helm.chart import Rendered, container_of

ANNOTATIONS = {
    "helm.sh/hook": "pre-install,pre-upgrade",
    "helm.sh/hook-weight": "0",
    "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
}


def test_only_the_migration_is_a_hook(rendered: Rendered) -> None:
    hooks = [item for item in rendered.manifests if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert hooks == rendered.of_kind("Job")
    assert len(hooks) == (rendered.name != "without-policies")
    assert all(hook["metadata"]["annotations"] == ANNOTATIONS for hook in hooks)


def test_it_uses_nothing_that_the_release_makes(rendered: Rendered) -> None:
    made = {item["metadata"]["name"] for item in rendered.manifests if item["kind"] != "Job"}
    for job in rendered.of_kind("Job"):
        spec = job["spec"]["template"]["spec"]
        assert "serviceAccountName" not in spec
        assert made.isdisjoint(words(spec))


def test_it_has_the_database_only(rendered: Rendered) -> None:
    for job in rendered.of_kind("Job"):
        container = container_of(job["spec"]["template"])
        assert container["command"] == ["flow-nexus", "migrate"]
        assert [variable["name"] for variable in container["env"]] == ["FLOW_NEXUS_DATABASE_URL"]
        assert "envFrom" not in container


def words(value: Any) -> set[str]:
    """Return every string of a manifest."""
    if isinstance(value, dict):
        return set().union(*map(words, value.values()))
    if isinstance(value, list):
        return set().union(*map(words, value))
    return {json.dumps(value).strip('"')}
