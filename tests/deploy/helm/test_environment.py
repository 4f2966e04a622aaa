"""Containers get settings that exist, and commands that their programs accept."""

import inspect
import json
import subprocess
import sys

import pytest
import uvicorn.config
from celery.app.base import Celery
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from api.settings import Settings
from tests.deploy.helm import settings_schema
from tests.deploy.helm.chart import SANDBOX_HOST, Rendered, container_of
from tests.deploy.tools import ROOT
from workers.sandboxes.host.config import read_config

SECRETS = {
    "FLOW_NEXUS_DATABASE_URL": "postgresql+psycopg://database/flow_nexus",
    "FLOW_NEXUS_REDIS_URL": "redis://redis/0",
    "FLOW_NEXUS_SECRET_KEY": "s" * 32,
    "FLOW_NEXUS_E2B_API_KEY": "e2b_key",
}


def environment(rendered: Rendered, component: str) -> dict[str, str]:
    """Return a container's variables. Made-up values stand for those of Secrets."""
    container = container_of(rendered.pod(component))
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        (settings,) = (
            item for item in rendered.of_kind("ConfigMap") if item["metadata"]["name"] == source["configMapRef"]["name"]
        )
        found |= settings["data"]
    for variable in container["env"]:
        found[variable["name"]] = variable["value"] if "value" in variable else SECRETS.get(variable["name"], "k" * 16)
    return found


def test_every_variable_is_a_setting(rendered: Rendered) -> None:
    known = {f"FLOW_NEXUS_{name}" for name in settings_schema.names()}
    for component in rendered.components - {SANDBOX_HOST}:
        assert set(environment(rendered, component)) - known <= {"FORWARDED_ALLOW_IPS"}
    # uvicorn's own.
    assert '"FORWARDED_ALLOW_IPS"' in inspect.getsource(uvicorn.config)


def test_the_settings_of_the_schema_are_those_of_the_deployment() -> None:
    schema = json.loads(settings_schema.FILE.read_text())
    assert schema["properties"]["settings"] == settings_schema.settings_schema(), (
        "run python -m tests.deploy.helm.settings_schema"
    )


def settings_of(rendered: Rendered, component: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment(rendered, component).items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("component", ["api", "worker", "beat"])
def test_each_part_starts_with_its_settings(rendered: Rendered, component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(rendered, component, monkeypatch)
    assert str(settings.models_dir) == "/var/lib/flow-nexus/models"
    if rendered.name == "fixed-size":
        assert (settings.max_upload_bytes, settings.round_quorum) == (20_000_000_000, 0.75)
        assert settings.rate_limit is None
        assert (str(settings.price_worker_per_minute), settings.docs, settings.log_level) == ("0.01", False, "warning")


def test_the_provider_is_the_one_of_the_values(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(rendered, "api", monkeypatch)
    found = (settings.e2b_api_url, settings.e2b_sandbox_url, settings.e2b_domain)
    compatible, own = "https://sandboxes.example.org", "http://nexus-flow-nexus-sandbox-host.flow-nexus-sandboxes.svc:8710"
    expected = {
        "e2b": (None, None, None),
        "fixed-size": (None, None, None),
        "without-policies": (None, None, "sandboxes.example.org"),
        "compatible-ingress": (compatible, compatible, None),
        "host-gateway": (own, own, None),
    }
    assert found == expected[rendered.name]


def test_the_api_accepts_its_options(rendered: Rendered) -> None:
    container = container_of(rendered.pod("api"))
    assert container["command"] == ["python", "-m", "api.serve"]
    options = [argument for argument in container["args"] if argument.startswith("--")]
    help_text = subprocess.run(
        [sys.executable, "-m", "api.serve", *container["args"], "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert options
    assert all(f"{option} " in help_text for option in options)


def test_the_migration_is_a_command() -> None:
    command = [sys.executable, "-m", "api.cli.main", "migrate", "--help"]
    assert "FLOW_NEXUS_DATABASE_URL" in subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_celery_accepts_its_options(rendered: Rendered) -> None:
    for component, command in (("worker", worker), ("beat", beat)):
        container = container_of(rendered.pod(component))
        assert container["command"] == ["celery", "-q", "-A", "workers.app", component]
        context = command.make_context(
            component, list(container["args"]), obj=CLIContext(Celery("test"), no_color=False, workdir=None)
        )
        assert context.params["schedule" if component == "beat" else "concurrency"]
    # So many threads at least do not wait for a connection.
    pool = environment(rendered, "worker")["FLOW_NEXUS_DATABASE_POOL_SIZE"]
    assert f"--concurrency={pool}" in container_of(rendered.pod("worker"))["args"]


def test_the_sandbox_host_accepts_its_options(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    if SANDBOX_HOST not in rendered.components:
        return
    container = container_of(rendered.pod(SANDBOX_HOST))
    assert container["command"] == ["python", "-m", "workers.sandboxes.host"]
    (variable,) = environment(rendered, SANDBOX_HOST)
    monkeypatch.setenv(variable, "k" * 16)
    config = read_config(container["args"])
    assert config.api_key == "k" * 16
    assert config.limits.memory_bytes == 8 << 30
    assert config.isolation != "none"
    home = str(config.home)
    assert any(home.startswith(mount["mountPath"]) for mount in container["volumeMounts"])
