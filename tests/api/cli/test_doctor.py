"""`flow-nexus doctor` on a healthy deployment, and on deployments with one fault each."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2b import Sandbox, SandboxInfo
from sqlalchemy import create_engine, make_url

from api.cli.doctor.operations import MARK, OPERATIONS
from api.cli.main import main
from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider

pytestmark = pytest.mark.timeout(600)
NOWHERE = "127.0.0.1:9"
PROVIDERS = "tests.api.cli.broken_providers"
Doctor = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def settings(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment of the stack's operator, and return it."""
    values = dict(pair.split("=", 1) for pair in shlex.split((stack.folder.path / "operator.env").read_text()))
    for name in os.environ:
        if name.startswith(("FLOW_NEXUS_", "E2B_")):
            monkeypatch.delenv(name)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def doctor(settings: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Return a function that runs the doctor, and returns the findings that are not ok, by name."""

    def examine(*options: str, code: int = 1) -> dict[str, dict[str, str]]:
        assert main(["doctor", "--format", "json", *options]) == code
        out, err = capsys.readouterr()
        assert err == ""
        for name in ("FLOW_NEXUS_SECRET_KEY", "E2B_API_KEY"):
            assert settings[name] not in out
        answer: dict[str, Any] = json.loads(out)
        assert answer["healthy"] is (code == 0)
        return {finding["name"]: finding for finding in answer["findings"] if finding["state"] != "ok"}

    return examine


def left(stack: EmbeddedStack) -> list[SandboxInfo]:
    """Return the sandboxes that a doctor made and that still exist."""
    pages = Sandbox.list(**provider(stack))
    found: list[SandboxInfo] = []
    while pages.has_next:
        found += [info for info in pages.next_items() if MARK in info.metadata]
    return found


def test_a_healthy_deployment_passes_every_check(
    stack: EmbeddedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    *lines, summary = out.splitlines()
    assert err == ""
    assert summary.endswith(", 0 failed")
    names = [line[8:48].strip() for line in lines]
    assert [f"sandbox: {operation.name}" for operation in OPERATIONS] == [name for name in names if name.startswith("sandbox")]
    assert {"settings", "secret key", "models", "disk", "database", "migrations", "clock", "redis", "isolation"} <= set(names)
    password = settings["FLOW_NEXUS_REDIS_URL"].partition("@")[0].rpartition(":")[2]
    assert not [value for value in (password, settings["FLOW_NEXUS_SECRET_KEY"], settings["E2B_API_KEY"]) if value in out]
    assert left(stack) == []


@pytest.mark.parametrize(
    ("variable", "value", "name", "remedy"),
    [
        ("FLOW_NEXUS_DATABASE_URL", f"postgresql+psycopg://user:hidden@{NOWHERE}/x", "database", "start PostgreSQL"),
        ("FLOW_NEXUS_DATABASE_URL", "hidden", "database", "must look like"),
        ("FLOW_NEXUS_REDIS_URL", f"redis://:hidden@{NOWHERE}/0", "redis", "start Redis"),
        ("FLOW_NEXUS_REDIS_URL", "hidden", "redis", "must look like"),
        ("FLOW_NEXUS_SECRET_KEY", "hidden" * 6, "secret key", "48 random characters"),
        ("FLOW_NEXUS_SECRET_KEY", "hidden", "settings", "docs/settings.md"),
        ("FLOW_NEXUS_MODELS_DIR", "/proc/version", "models", "create a folder"),
        ("FLOW_NEXUS_MODELS_DIR", "/proc/models", "models", "give this user the folder"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_remedy(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, value)
    found = doctor("--no-sandboxes")
    assert list(found) == [name]
    assert remedy in found[name]["remedy"]
    assert "hidden" not in str(found)


def test_a_wrong_password_of_redis_is_told(doctor: Doctor, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    before, at, address = settings["FLOW_NEXUS_REDIS_URL"].partition("@")
    monkeypatch.setenv("FLOW_NEXUS_REDIS_URL", f"{before}hidden{at}{address}")
    assert "refuses the password" in doctor("--no-sandboxes")["redis"]["detail"]


def test_missing_settings_are_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOW_NEXUS_REDIS_URL")
    monkeypatch.delenv("E2B_API_KEY")
    assert "FLOW_NEXUS_REDIS_URL, FLOW_NEXUS_E2B_API_KEY" in doctor()["settings"]["detail"]


def test_a_database_without_tables_is_told(doctor: Doctor, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(settings["FLOW_NEXUS_DATABASE_URL"])
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE doctor_empty")
    monkeypatch.setenv("FLOW_NEXUS_DATABASE_URL", url.set(database="doctor_empty").render_as_string(hide_password=False))
    try:
        found = doctor("--no-sandboxes")
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE doctor_empty WITH (FORCE)")
        engine.dispose()
    assert list(found) == ["migrations"]
    assert found["migrations"]["remedy"] == "run `flow-nexus migrate`"


@pytest.mark.parametrize(
    ("variables", "name", "told"),
    [
        ({"E2B_API_URL": f"http://{NOWHERE}"}, "provider", "could not list sandboxes"),
        ({"E2B_API_KEY": "e2b_" + "0" * 40}, "provider", "refuses this deployment's key"),
        ({"FLOW_NEXUS_SANDBOX_PROVIDER": "nowhere:Class"}, "provider", "'nowhere' is not installed"),
        ({"FLOW_NEXUS_SANDBOX_PROVIDER": "workers:Class"}, "provider", "cannot be loaded"),
        ({"FLOW_NEXUS_TEMPLATE_PREFIX": "unknown-"}, "sandbox: create", "no such template"),
        ({"FLOW_NEXUS_SANDBOX_PROVIDER": f"{PROVIDERS}:LosesAnswer"}, "sandbox: create", "could not start"),
        ({"FLOW_NEXUS_SANDBOX_PROVIDER": f"{PROVIDERS}:ChangesUploads"}, "sandbox: upload 10 MB", "differs"),
    ],
)
def test_a_provider_with_a_fault_is_told_and_no_sandbox_is_left(
    stack: EmbeddedStack, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, told: str
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    found = doctor()
    assert told in found[name]["detail"]
    assert found[name]["remedy"]
    assert left(stack) == []


def test_an_interrupted_doctor_ends_its_sandbox(stack: EmbeddedStack, settings: dict[str, str], tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "api.cli.main", "doctor"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not left(stack):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "")
        assert left(stack) == []
    finally:
        process.kill()
