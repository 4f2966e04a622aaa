"""The compose file keeps the specification, and its parts belong together."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api.settings import Settings
from tests.deploy.images.test_images import IMAGES, command_of
from tests.deploy.tools import ROOT, tool

FOLDER = ROOT / "deploy"
TEXT = (FOLDER / "compose.yaml").read_text()
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([?-])([^}]*))?\}")
# Those that up.sh and its caller set.
FROM_THE_CALLER = {"VERSION", "IMAGE_PREFIX"}
# prepare.sh makes them.
NOT_YET = ("./compose/secrets",)
CONTROL = {"api-1", "api-2", "worker-1", "worker-2", "beat"}
OURS = {*CONTROL, "migrate", "sandbox-host"}


def parse(text: str) -> dict[str, Any]:
    """Return a compose file as docker reads it. Each variable has a made-up value."""
    filled = VARIABLE.sub(lambda match: "s" * 32 if match[2] == "?" else match[3] or "", text)
    program = ROOT / "tests/deploy/compose/program.py"
    done = subprocess.run([tool("python"), program], input=filled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return parse(TEXT)


def test_a_wrong_key_is_found() -> None:
    with pytest.raises(AssertionError, match="restarts"):
        parse(TEXT.replace("restart: unless-stopped", "restarts: unless-stopped", 1))


def test_all_parts_are_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*OURS, "postgres", "redis", "nginx", "prometheus", "grafana"}


def test_every_variable_has_a_source(tmp_path: Path) -> None:
    bases = set(re.findall(r"^(\w+)=", (FOLDER / "images/bases.env").read_text(), re.MULTILINE))
    shutil.copy(FOLDER / "compose/prepare.sh", tmp_path)
    subprocess.run([tmp_path / "prepare.sh"], check=True, capture_output=True)
    secrets = tmp_path / "secrets/env"
    made = dict(re.findall(r"^(\w+)=(.*)$", secrets.read_text(), re.MULTILINE))
    assert {match[0] for match in VARIABLE.findall(TEXT)} <= bases | set(made) | FROM_THE_CALLER
    assert all(len(value) == 64 for value in made.values())
    assert secrets.stat().st_mode & 0o077 == 0
    # A second start keeps them.
    subprocess.run([tmp_path / "prepare.sh"], check=True, capture_output=True)
    assert dict(re.findall(r"^(\w+)=(.*)$", secrets.read_text(), re.MULTILINE)) == made
    assert (tmp_path / "secrets/tls/fullchain.pem").read_text().startswith("-----BEGIN CERTIFICATE")


@pytest.mark.parametrize("service", sorted(CONTROL))
def test_a_part_starts_with_its_settings(compose: dict[str, Any], service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = compose["services"][service]["environment"]
    known = {
        name if name.startswith("FLOW_NEXUS_") else f"FLOW_NEXUS_{name}".upper()
        for name in Settings.model_json_schema()["properties"]
    }
    assert set(environment) - known <= {"FORWARDED_ALLOW_IPS"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.e2b_sandbox_url == "http://sandbox-host:8710"
    assert settings.database_url.startswith("postgresql+psycopg://")


def test_our_containers_have_few_rights(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]
        options = set(service["security_opt"])
        unconfined = {"seccomp:unconfined", "apparmor:unconfined", "systempaths=unconfined"}
        assert options == {"no-new-privileges:true", *(unconfined if name == "sandbox-host" else ())}
    for service in compose["services"].values():
        assert "no-new-privileges:true" in service["security_opt"]
        assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(service)


def test_our_images_are_those_of_make_images(compose: dict[str, Any]) -> None:
    built = {name for names in IMAGES.values() for name in names}
    used = {re.sub(r"^flow-nexus-|:.*", "", compose["services"][name]["image"]) for name in OURS}
    assert used == built
    for part in ("api", "worker"):
        assert "command" not in compose["services"][f"{part}-1"]
        assert command_of(part)


def test_networks_separate_the_parts(compose: dict[str, Any]) -> None:
    networks = {name: set(service["networks"]) for name, service in compose["services"].items()}
    assert {name for name, found in networks.items() if "sandboxes" in found} == {
        *("api-1", "api-2", "worker-1", "worker-2", "sandbox-host")
    }
    assert networks["sandbox-host"] == {"sandboxes"}
    assert compose["networks"]["sandboxes"]["internal"] is True
    assert networks["postgres"] == networks["redis"] == {"control"}
    assert compose["networks"]["control"]["internal"] is True
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"nginx", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for name in ("prometheus", "grafana") for port in published[name])


def test_the_proxy_is_the_one_that_the_api_trusts(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("api-1", "api-2"):
        assert services[name]["environment"]["FORWARDED_ALLOW_IPS"] == services["nginx"]["networks"]["front"]["ipv4_address"]
    upstream = (FOLDER / "compose/upstream.conf").read_text()
    assert re.findall(r"server ([\w-]+):8700;", upstream) == ["api-1", "api-2"]


def test_mounted_files_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if not source.startswith("./"):
                assert source in compose["volumes"]
            elif not source.startswith(NOT_YET):
                assert (FOLDER / source).exists(), source
            assert target.startswith("/")


def test_targets_are_services(compose: dict[str, Any]) -> None:
    for group in json.loads((FOLDER / "compose/targets.json").read_text()):
        for target in group["targets"]:
            name, _, _ = target.partition(":")
            assert "monitoring" in compose["services"][name]["networks"]


def test_nothing_starts_before_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            checked = "healthcheck" in services[needed] or needed in {*CONTROL, "sandbox-host"}
            assert how["condition"] == ("service_completed_successfully" if needed == "migrate" else "service_healthy"), name
            assert checked


def test_up_asks_docker_for_this_file(tmp_path: Path) -> None:
    """A program in place of docker prints what it is asked for."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$VERSION $*"\n')
    docker.chmod(0o755)
    copy = tmp_path / "checkout"
    shutil.copytree(FOLDER / "compose", copy / "deploy/compose", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([copy / "deploy/compose/up.sh", "ps"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == (
        "0.1.0 compose --env-file deploy/images/bases.env --env-file deploy/compose/secrets/env --file deploy/compose.yaml ps"
    )
