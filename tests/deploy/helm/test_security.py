"""Pods have the rights of the standard "restricted", and no manifest holds a secret."""

import json

from tests.deploy.helm.chart import SANDBOX_HOST, Rendered, container_of

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
USER = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "fsGroupChangePolicy": "OnRootMismatch",
}
VOLUMES = {"emptyDir", "persistentVolumeClaim", "secret"}


def test_pods_are_restricted(rendered: Rendered) -> None:
    for component, pod in rendered.pods:
        if component != SANDBOX_HOST:
            assert pod["spec"]["securityContext"] == {**USER, "seccompProfile": {"type": "RuntimeDefault"}}
            assert container_of(pod)["securityContext"] == RESTRICTED


def test_the_sandbox_host_differs_in_what_namespaces_need_only(rendered: Rendered) -> None:
    if SANDBOX_HOST not in rendered.components:
        return
    pod = rendered.pod(SANDBOX_HOST)
    unconfined = {"type": "Unconfined"}
    assert pod["spec"]["securityContext"] == {**USER, "seccompProfile": unconfined, "appArmorProfile": unconfined}
    assert container_of(pod)["securityContext"] == {**RESTRICTED, "procMount": "Unmasked"}
    assert pod["spec"]["hostUsers"] is False
    # It has nodes and a namespace of its own, and nothing of the control plane.
    assert pod["spec"]["nodeSelector"]
    assert rendered.one("Deployment", SANDBOX_HOST)["metadata"]["namespace"] == "flow-nexus-sandboxes"
    assert [variable["name"] for variable in container_of(pod)["env"]] == ["E2B_API_KEY"]


def test_no_pod_can_call_kubernetes_or_reach_the_node(rendered: Rendered) -> None:
    for _, pod in rendered.pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= VOLUMES
        assert "hostPort" not in json.dumps(spec)
    assert rendered.of_kind("ServiceAccount")[0]["automountServiceAccountToken"] is False
    assert not {item["kind"] for item in rendered.manifests} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_what_is_written_has_a_volume(rendered: Rendered) -> None:
    for _, pod in rendered.pods:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container_of(pod)["volumeMounts"]}
        assert "sizeLimit" in mounts["/tmp"]["emptyDir"]
        assert set(volumes) == {mount["name"] for mount in container_of(pod)["volumeMounts"]}


def test_secrets_are_named_only(rendered: Rendered) -> None:
    assert rendered.of_kind("Secret") == []
    for component, pod in rendered.pods:
        variables = {variable["name"]: variable for variable in container_of(pod)["env"]}
        for name, variable in variables.items():
            if name.endswith(("_URL", "_KEY")):
                assert set(variable["valueFrom"]["secretKeyRef"]) == {"name", "key"}, component
    data = rendered.one("ConfigMap", "settings")["data"]
    assert not [name for name in data if name.endswith(("_KEY", "DATABASE_URL", "REDIS_URL"))]


def test_containers_have_requests_and_a_limit_of_memory(rendered: Rendered) -> None:
    for _, pod in rendered.pods:
        resources = container_of(pod)["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert "memory" in resources["limits"]
