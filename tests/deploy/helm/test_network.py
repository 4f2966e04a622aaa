"""What reaches the pods, and what the pods reach."""

import json
from typing import Any

import pytest

from tests.deploy.helm.chart import SANDBOX_HOST, Manifest, Rendered, component_of, matches
from tests.deploy.tools import ROOT

SERVED = [
    *json.loads((ROOT / "openapi.json").read_text())["paths"],
    *("/", "/dashboard", "/dashboard/clusters", "/docs", "/docs/swagger-ui.css", "/openapi.json"),
]
NOT_ROUTED = ["/metrics", "/metrics/", "//metrics", "/metricsx", "/v1x"]
# The TCP ports that each part may call, beside those of DNS.
CALLS = {
    "api": {"database", "redis", "sandboxes"},
    "worker": {"database", "redis", "sandboxes", "webhooks"},
    "beat": {"redis"},
    "migration": {"database"},
}
PORTS = {"database": 5432, "redis": 6379, "sandboxes": 443, "webhooks": 443}


def paths(rendered: Rendered) -> list[tuple[str, str]]:
    """Return type and value of each path that is routed to the API."""
    found = []
    for ingress in rendered.of_kind("Ingress"):
        (rule,) = ingress["spec"]["rules"]
        found += [(path["pathType"], path["path"]) for path in rule["http"]["paths"]]
        assert "defaultBackend" not in ingress["spec"]
    for route in rendered.of_kind("HTTPRoute"):
        (rule,) = route["spec"]["rules"]
        found += [(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]]
    return found


def is_routed(path: str, routes: list[tuple[str, str]]) -> bool:
    return any(
        path == value if kind == "Exact" else path == value or path.startswith(f"{value.rstrip('/')}/")
        for kind, value in routes
    )


def test_everything_but_the_metrics_is_routed(rendered: Rendered) -> None:
    routes = paths(rendered)
    has_a_way_in = rendered.name in ("compatible-ingress", "host-gateway", "without-policies")
    assert bool(routes) == has_a_way_in
    if has_a_way_in:
        assert [path for path in SERVED if not is_routed(path, routes)] == ["/metrics"]
        assert [path for path in NOT_ROUTED if is_routed(path, routes)] == []


def test_ways_in_end_tls_and_lead_to_the_service(rendered: Rendered) -> None:
    service = rendered.one("Service", "api")
    (port,) = service["spec"]["ports"]
    for ingress in rendered.of_kind("Ingress"):
        (rule,) = ingress["spec"]["rules"]
        assert ingress["spec"]["tls"] == [{"hosts": [rule["host"]], "secretName": "flow-nexus-tls"}]
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    for route in rendered.of_kind("HTTPRoute"):
        assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
        assert set(route["spec"]) == {"parentRefs", "hostnames", "rules"}
        assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
        (rule,) = route["spec"]["rules"]
        assert set(rule) == {"matches", "timeouts", "backendRefs"}
        assert rule["timeouts"] == {"request": "0s"}
        assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]


@pytest.fixture
def policies(guarded: Rendered) -> dict[str, Manifest]:
    """Return the policies by the part that they belong to."""
    return {component_of(policy): policy for policy in guarded.of_kind("NetworkPolicy")}


def test_policies_can_be_turned_off(unguarded: Rendered) -> None:
    assert unguarded.of_kind("NetworkPolicy") == []


def test_every_pod_is_denied_everything_first(guarded: Rendered, policies: dict[str, Manifest]) -> None:
    for component, pod in guarded.pods:
        name = component if component == SANDBOX_HOST else "network"
        spec = policies[name]["spec"]
        assert matches(spec["podSelector"]["matchLabels"], pod["metadata"]["labels"])
        assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(policies["network"]["spec"])


def test_a_policy_belongs_to_one_part(guarded: Rendered, policies: dict[str, Manifest]) -> None:
    assert set(policies) == guarded.components | {"network"}
    labels = {name: pod["metadata"]["labels"] for name, pod in guarded.pods}
    for name, policy in policies.items():
        selector = policy["spec"]["podSelector"]["matchLabels"]
        found = {component for component in labels if matches(selector, labels[component])}
        assert found == (set(labels) if name == "network" else {name})


def test_a_part_calls_what_it_needs(guarded: Rendered, policies: dict[str, Manifest]) -> None:
    ports = {
        **PORTS,
        **{"fixed-size": {"database": 6432, "redis": 6380}, "host-gateway": {"sandboxes": 8710}}.get(guarded.name, {}),
    }
    for component, calls in CALLS.items():
        dns, *others = policies[component]["spec"]["egress"]
        assert {port["port"] for port in dns["ports"]} == {53}
        assert dns["to"]
        assert [[port["port"] for port in rule["ports"]] for rule in others] == [
            [ports[name]] for name in PORTS if name in calls
        ]


def test_webhooks_and_sandboxes_in_the_cloud_are_not_on_private_addresses(
    guarded: Rendered, policies: dict[str, Manifest]
) -> None:
    *_, sandboxes, webhooks = policies["worker"]["spec"]["egress"]
    for rule in (webhooks, *([sandboxes] if guarded.name in ("e2b", "fixed-size") else [])):
        assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(rule["to"][0]["ipBlock"]["except"])


def test_only_named_pods_reach_the_api(guarded: Rendered, policies: dict[str, Manifest]) -> None:
    rules: list[dict[str, Any]] = policies["api"]["spec"].get("ingress", [])
    names = {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for rule in rules for peer in rule["from"]}
    expected = {"compatible-ingress": {"ingress-nginx", "monitoring"}, "host-gateway": {"gateways"}}
    assert names == expected.get(guarded.name, set())
    for component in ("worker", "beat", "migration"):
        assert "ingress" not in policies[component]["spec"]


def test_the_sandbox_host_answers_the_control_plane_and_calls_nobody(guarded: Rendered, policies: dict[str, Manifest]) -> None:
    if SANDBOX_HOST not in policies:
        return
    policy = policies[SANDBOX_HOST]
    assert policy["metadata"]["namespace"] == "flow-nexus-sandboxes"
    assert "egress" not in policy["spec"]
    (rule,) = policy["spec"]["ingress"]
    labels = {name: pod["metadata"]["labels"] for name, pod in guarded.pods}
    found = {name for peer in rule["from"] for name in labels if matches(peer["podSelector"]["matchLabels"], labels[name])}
    assert found == {"api", "worker"}
    assert all(peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ml"} for peer in rule["from"])
