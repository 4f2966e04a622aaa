"""A node that does not start says why, and does not wait for what cannot happen."""

import runpy
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
from e2b import Template

from api.domain.records import FailureReason
from api.domain.sandboxes import SandboxUnavailableError
from api.store import leases
from api.store.database import Database
from api.store.tables import NodeRow
from tests.api.store.rows import make_cluster, make_node, make_project
from tests.workers.sandboxes.hosting import API_KEY, Host, run
from tests.workers.steps.context import make_context
from workers.context import Context
from workers.sandboxes.host.envd.fork_server import AGENT_COMMAND, AGENT_CONFIG
from workers.steps import nodes


@pytest.fixture
def context(database: Database, host: Host, tmp_path: Path) -> Context:
    return make_context(database, tmp_path, E2B_API_KEY=API_KEY, E2B_API_URL=host.url, E2B_SANDBOX_URL=host.url)


def provisioning_node(context: Context, template: str = "python") -> str:
    with context.database.unit_of_work() as uow:
        node = make_node(uow.session, make_cluster(uow.session, make_project(uow.session)))
        node.template = template
        return node.id


def advance(context: Context, node_id: str) -> tuple[str, FailureReason | None]:
    """Run the node's step once. Return its status and its error."""
    with context.database.unit_of_work() as uow:
        leases.wake(uow.session.get_one(NodeRow, node_id))
    nodes.advance(context, node_id)
    return status_and_error(context, node_id)


def status_and_error(context: Context, node_id: str) -> tuple[str, FailureReason | None]:
    with context.database.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, node_id)
        return node.status, node.error


def test_a_provider_that_is_away_is_named_and_tried_again(database: Database, tmp_path: Path) -> None:
    context = make_context(database, tmp_path)
    status, error = advance(context, provisioning_node(context))
    assert status == "provisioning"
    assert error is not None
    assert (error.code, error.detail) == ("sandbox_failed", "the sandbox provider could not start a sandbox in time")


def test_a_key_that_the_provider_refuses_fails_the_node_at_once(database: Database, host: Host, tmp_path: Path) -> None:
    context = make_context(database, tmp_path, E2B_API_KEY="e2b_wrong", E2B_API_URL=host.url, E2B_SANDBOX_URL=host.url)
    status, error = advance(context, provisioning_node(context))
    assert status == "failed"
    assert error is not None
    assert (error.code, error.detail) == ("sandbox_failed", "the sandbox provider refuses this deployment's key")


def test_a_template_that_the_provider_lacks_fails_the_node_at_once(context: Context) -> None:
    status, error = advance(context, provisioning_node(context, "cobol"))
    assert status == "failed"
    assert error is not None
    assert "no such template" in error.detail


def test_a_provider_that_does_not_answer_is_named_while_the_request_is_open(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_id = provisioning_node(context)
    during: list[FailureReason | None] = []

    async def create(_spec: object) -> NoReturn:
        await anyio.sleep(2)
        during.append(await anyio.to_thread.run_sync(lambda: status_and_error(context, node_id)[1]))
        raise SandboxUnavailableError("the sandbox provider could not start a sandbox in time")

    monkeypatch.setattr(nodes, "_SLOW_PROVIDER_S", 0.5)
    monkeypatch.setattr(context.provider, "create", create)
    status, error = advance(context, node_id)
    assert [reason and reason.code for reason in during] == ["provider_slow"]
    assert (status, error and error.code) == ("provisioning", "sandbox_failed")


def test_an_agent_that_does_not_answer_is_named_until_it_does(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    node_id = provisioning_node(context)
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "_AGENT_COMMAND", "sleep 600")
        patch.setattr(nodes, "_CONFIG_PATH", "/run/elsewhere.json")
        patch.setattr(nodes, "_HEALTH_WAIT_S", 0.5)
        status, error = advance(context, node_id)
    assert (status, error and error.code) == ("provisioning", "agent_not_ready")
    monkeypatch.setattr(nodes, "_RESTART_AFTER", timedelta(0))
    monkeypatch.setattr(nodes, "_HEALTH_WAIT_S", 90.0)
    assert advance(context, node_id) == ("running", None)
    with context.database.unit_of_work() as uow:
        sandbox_id = uow.session.get_one(NodeRow, node_id).sandbox_id
    assert sandbox_id is not None
    assert run(context.provider.kill(sandbox_id))


def test_the_templates_start_command_is_an_agent_that_the_step_knows_as_waiting() -> None:
    build = runpy.run_path(str(Path(__file__).parents[3] / "deploy/sandbox/build.py"))
    assert nodes._WAITING_AGENT in build["START_COMMAND"]
    assert build["CONFIG_PATH"] == nodes._CONFIG_PATH
    assert build["START_COMMAND"] in Template.to_dockerfile(build["make_template"]("3.11-slim", None))
    assert nodes._WAITING_AGENT in " ".join(AGENT_COMMAND)
    assert str(AGENT_CONFIG) == nodes._CONFIG_PATH


def test_a_node_whose_agent_waits_needs_no_command(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path / "home", warm=True)
    try:
        context = make_context(database, tmp_path, E2B_API_KEY=API_KEY, E2B_API_URL=host.url, E2B_SANDBOX_URL=host.url)
        if not host.is_warm():
            pytest.skip("sandboxes are not forked here: no agent waits")

        async def start(_sandbox_id: str, _command: str) -> NoReturn:
            raise AssertionError("an agent was started by command")

        monkeypatch.setattr(context.provider, "start", start)
        assert advance(context, provisioning_node(context)) == ("running", None)
    finally:
        host.stop()
