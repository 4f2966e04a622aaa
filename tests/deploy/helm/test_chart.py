"""The chart renders valid manifests, and its parts belong together."""

import re
import tomllib
from typing import Any

import pytest

from tests.deploy.helm.cases import REFUSED, VALUES
from tests.deploy.helm.chart import Rendered, container_of, matches
from tests.deploy.tools import ROOT

CHART = ROOT / "deploy/helm/flow-nexus"


def test_there_are_five_values_files() -> None:
    assert len(VALUES) == 5


@pytest.mark.parametrize("name", VALUES)
def test_helm_lint_finds_nothing(answers: dict[str, Any], name: str) -> None:
    lint = answers[name]["lint"]
    assert lint["total_charts_linted"] == 1
    assert lint["errors"] == []
    # It recommends a picture, which nothing here shows.
    assert [message["error"] for message in lint["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("name", VALUES)
def test_every_manifest_is_valid(answers: dict[str, Any], name: str) -> None:
    assert len(answers[name]["manifests"]) > 10
    assert answers[name]["invalid"] == []


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused_with_their_name(answers: dict[str, Any], name: str) -> None:
    assert REFUSED[name][1] in answers[name].get("refused", "it was accepted")


def test_the_versions_are_those_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"^(?:version|appVersion): (\S+)$", (CHART / "Chart.yaml").read_text(), re.MULTILINE) == [version] * 2


def test_names_are_unique_and_have_a_namespace(rendered: Rendered) -> None:
    keys = [(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in rendered.manifests]
    assert len(set(keys)) == len(keys)


def test_selectors_find_the_pods_of_their_part_only(rendered: Rendered) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in rendered.pods}
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        for manifest in rendered.of_kind(kind):
            selector = manifest["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            found = [name for name in labels if matches(selector, labels[name])]
            assert found == [manifest["metadata"]["labels"]["app.kubernetes.io/component"]]


def test_the_api_has_at_least_two_pods_and_keeps_one(rendered: Rendered) -> None:
    api = rendered.one("Deployment", "api")
    scalers = rendered.of_kind("HorizontalPodAutoscaler")
    # Both at once would set the number of pods against each other.
    assert len(scalers) + ("replicas" in api["spec"]) == 1
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"]["name"] == api["metadata"]["name"]
        assert scaler["spec"]["minReplicas"] >= 2
    assert api["spec"].get("replicas", 2) >= 2
    assert rendered.one("PodDisruptionBudget", "api")["spec"]["maxUnavailable"] == 1


def test_there_is_one_beat_at_most(rendered: Rendered) -> None:
    beat = rendered.one("Deployment", "beat")["spec"]
    assert (beat["replicas"], beat["strategy"]["type"]) == (1, "Recreate")


def test_probes_ask_only_whether_the_process_is_alive(rendered: Rendered) -> None:
    container = container_of(rendered.pod("api"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_the_api_and_workers_share_one_folder_of_models(rendered: Rendered) -> None:
    claims = set()
    for part in ("api", "worker"):
        pod = rendered.pod(part)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container_of(pod)["volumeMounts"]}
        claims.add((volumes["models"]["persistentVolumeClaim"]["claimName"], mounts["models"]))
    ((claim, folder),) = claims
    assert rendered.one("ConfigMap", "settings")["data"]["FLOW_NEXUS_MODELS_DIR"] == folder
    for made in rendered.of_kind("PersistentVolumeClaim"):
        assert made["metadata"]["name"] == claim
        assert made["spec"]["accessModes"] == ["ReadWriteMany"]
        assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_service_monitor_finds_the_service(rendered: Rendered) -> None:
    for monitor in rendered.of_kind("ServiceMonitor"):
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
        service = rendered.one("Service", "api")
        assert matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
        assert endpoint["path"] == "/metrics"


def test_notes_say_how_to_go_on(answers: dict[str, Any]) -> None:
    notes = {name: answers[name]["notes"] for name in VALUES}
    assert "port-forward service/nexus-flow-nexus-api 8700:80" in notes["e2b"]
    assert "https://flow-nexus.example.org" in notes["compatible-ingress"]
    assert all("keys create --project default" in text for text in notes.values())
    # 6 pods x 2 processes x (10 + 1 that listens), and 2 workers x 16.
    assert "must allow 164 connections" in notes["e2b"]
    assert "every pod of this cluster can read /metrics" in notes["without-policies"]
