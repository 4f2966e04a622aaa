"""Steps of an execution, on real rows and in a real sandbox."""

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import func
from sqlalchemy.orm import undefer

from api.domain.sandboxes import ExecuteOptions, ExecutionJob
from api.domain.scopes import SCOPES
from api.domain.specs import ExecutionRequest, ExecutionSpec
from api.services import executions
from api.services.principals import Principal
from api.store import transitions
from api.store.database import Database
from api.store.tables import ExecutionRow, NodeRow
from tests.api.store.rows import make_cluster, make_node, make_project
from tests.workers.sandboxes.hosting import API_KEY, Host, run, spec
from tests.workers.steps.context import make_context
from workers import metrics
from workers.context import Context
from workers.steps import executions as steps


class Background:
    """A node with a real sandbox, and the executions in it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        info = run(context.provider.create(spec(uuid.uuid4().hex)))
        self.sandbox_id = info.sandbox_id
        with context.database.unit_of_work() as uow:
            cluster = make_cluster(uow.session, make_project(uow.session))
            node = make_node(uow.session, cluster, sandbox_id=self.sandbox_id)
            transitions.move(uow.session, node, "running")
            self.node_id = node.id
            self.caller = Principal(cluster.project_id, "key_1", SCOPES, "fnx_")

    def start(self, code: str, timeout_s: float = 60, **fields: Any) -> str:
        request = ExecutionRequest(**{"code": code, "language": "bash", **fields})
        with self.context.database.unit_of_work() as uow:
            spec = ExecutionSpec(request, timeout_s)
            return executions.start(uow, self.context.settings, self.caller, self.node_id, spec).id

    def cancel(self, execution_id: str) -> None:
        with self.context.database.unit_of_work() as uow:
            executions.cancel(uow, self.caller, execution_id)

    def advance(self, execution_id: str) -> ExecutionRow:
        """Run one step at once, as a worker does."""
        with self.context.database.unit_of_work() as uow:
            uow.session.get_one(ExecutionRow, execution_id).due_at = func.now() - timedelta(seconds=1)
        steps.advance(self.context, execution_id)
        return self.row(execution_id)

    def ended(self, execution_id: str) -> ExecutionRow:
        end = time.monotonic() + 40
        while (row := self.advance(execution_id)).finished_at is None:
            assert time.monotonic() < end, row.status
        return row

    def row(self, execution_id: str) -> ExecutionRow:
        with self.context.database.unit_of_work() as uow:
            return uow.session.get_one(ExecutionRow, execution_id, options=[undefer(ExecutionRow.request)])

    def change(self, execution_id: str, **fields: Any) -> None:
        with self.context.database.unit_of_work() as uow:
            row = uow.session.get_one(ExecutionRow, execution_id)
            for name, value in fields.items():
                setattr(row, name, value)

    def shell(self, command: str) -> str:
        return run(self.context.provider.run(self.sandbox_id, command, timeout_s=20, max_output=10_000)).stdout

    def output(self, execution_id: str) -> str:
        read = self.context.provider.read_execution(self.sandbox_id, execution_id, after=(0, 0), most=10_000, wait_s=0)
        return run(read).stdout.data.decode()


@pytest.fixture
def background(database: Database, host: Host, tmp_path: Path) -> Iterator[Background]:
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    made = Background(make_context(database, tmp_path, background_max_output=1000, **addresses))
    yield made
    run(made.context.provider.kill(made.sandbox_id))


def test_code_runs_to_its_end_and_its_row_forgets_it(background: Background) -> None:
    execution_id = background.start("cat; echo $1 $A >&2; exit 3", args=("x",), env={"A": "b"}, stdin="in\n")
    row = background.ended(execution_id)
    assert (row.status, row.exit_code, row.limit, row.error) == ("completed", 3, None, None)
    assert (row.stdout_bytes, row.stderr_bytes, row.request) == (3, 4, None)
    assert background.output(execution_id) == "in\n"
    assert row.started_at is not None
    assert row.finished_at is not None
    assert row.created_at <= row.started_at <= row.finished_at
    assert row.due_at is not None, "the output is removed later"


class TestDeathOfAWorker:
    def test_before_the_start_is_written_down(self, background: Background) -> None:
        execution_id = background.start("echo run >> /data/once; sleep 1")
        job = ExecutionJob("echo run >> /data/once; sleep 1", "bash", 60, 1000, ExecuteOptions())
        run(background.context.provider.start_execution(background.sandbox_id, execution_id, job))
        assert background.ended(execution_id).status == "completed"
        assert background.shell("cat /data/once") == "run\n"

    def test_while_the_code_runs(self, background: Background) -> None:
        execution_id = background.start("echo run >> /data/once; while [ ! -e /data/go ]; do sleep 0.1; done; echo done")
        assert background.advance(execution_id).status == "running"
        # The worker that follows it dies. Another one takes over when the lease has ended.
        background.change(execution_id, lease_token="dead", lease_until=func.now() - timedelta(seconds=1))
        background.shell("touch /data/go")
        row = background.ended(execution_id)
        assert (row.status, row.exit_code) == ("completed", 0)
        assert background.shell("cat /data/once") == "run\n"
        assert background.output(execution_id) == "done\n"


class TestCancel:
    def test_code_that_has_not_begun_never_runs(self, background: Background) -> None:
        execution_id = background.start("touch /data/ran")
        background.cancel(execution_id)
        row = background.advance(execution_id)
        assert (row.status, row.started_at, row.request) == ("cancelled", None, None)
        assert "ran" not in background.shell("ls /data")

    def test_all_processes_of_running_code_end(self, background: Background) -> None:
        execution_id = background.start("setsid sleep 801 & sleep 802")
        assert background.advance(execution_id).status == "running"
        background.cancel(execution_id)
        row = background.advance(execution_id)
        assert (row.status, row.exit_code) == ("cancelled", None)
        assert background.shell("grep -lE 'sleep.80[12]' /proc/[0-9]*/cmdline 2>/dev/null; true") == ""

    def test_a_step_that_follows_the_code_notices(self, background: Background, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps, "_FOLLOW_S", 50.0)
        execution_id = background.start("sleep 60")
        following = Thread(target=steps.advance, args=(background.context, execution_id))
        following.start()
        _until(lambda: background.row(execution_id).status == "running")
        background.cancel(execution_id)
        following.join(20)
        assert not following.is_alive()
        assert background.row(execution_id).lease_token is None
        assert background.advance(execution_id).status == "cancelled"

    def test_code_that_ended_before_is_completed(self, background: Background) -> None:
        execution_id = background.start("sleep 7; exit 4")
        assert background.advance(execution_id).status == "running"
        time.sleep(3)
        background.cancel(execution_id)
        row = background.advance(execution_id)
        assert (row.status, row.exit_code) == ("completed", 4)


class TestEnds:
    @pytest.mark.parametrize(
        ("code", "timeout_s", "limit"), [("echo a; sleep 60", 1, "timeout"), ("yes", 60, "output")], ids=["timeout", "output"]
    )
    def test_a_limit(self, background: Background, code: str, timeout_s: float, limit: str) -> None:
        counted = metrics.SANDBOX_LIMITS.labels(limit)._value.get
        before = counted()
        row = background.ended(background.start(code, timeout_s))
        assert (row.status, row.limit, row.exit_code) == ("completed", limit, None)
        assert counted() == before + 1
        assert row.stdout_bytes <= 1000

    def test_a_timeout_that_the_sandbox_did_not_enforce(self, background: Background) -> None:
        execution_id = background.start("kill -STOP $PPID; sleep 60", timeout_s=20)
        assert background.advance(execution_id).status == "running"
        background.change(execution_id, started_at=func.now() - timedelta(seconds=51))
        row = background.advance(execution_id)
        assert (row.status, row.limit, row.exit_code) == ("completed", "timeout", None)

    @pytest.mark.parametrize(
        ("language", "cwd", "code"), [("bash", "/nowhere", "invalid_path"), ("ruby", None, "unsupported_by_sandbox")]
    )
    def test_what_cannot_start(self, background: Background, language: str, cwd: str | None, code: str) -> None:
        row = background.advance(background.start("true", language=language, cwd=cwd))
        assert row.error is not None
        assert (row.status, row.started_at, row.error.code) == ("failed", None, code)

    def test_a_supervisor_that_was_killed(self, background: Background) -> None:
        execution_id = background.start("sleep 811 & kill -KILL $PPID; sleep 812")
        row = background.ended(execution_id)
        assert row.error is not None
        assert (row.status, row.error.code) == ("failed", "end_unknown")
        assert background.shell("grep -lE 'sleep.81[12]' /proc/[0-9]*/cmdline 2>/dev/null; true") == ""

    @pytest.mark.parametrize("cancelled", [False, True])
    def test_the_end_of_the_sandbox(self, background: Background, cancelled: bool) -> None:
        execution_id = background.start("sleep 60")
        assert background.advance(execution_id).status == "running"
        if cancelled:
            background.cancel(execution_id)
        with background.context.database.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(NodeRow, background.node_id), "terminating")
        row = background.advance(execution_id)
        assert row.status == ("cancelled" if cancelled else "failed")
        assert (row.error and row.error.code) == (None if cancelled else "sandbox_ended")
        assert (row.due_at, row.has_output) == (None, False)

    def test_a_sandbox_that_was_replaced(self, background: Background) -> None:
        execution_id = background.start("sleep 60")
        with background.context.database.unit_of_work() as uow:
            uow.session.get_one(NodeRow, background.node_id).sandbox_id = "another"
        row = background.advance(execution_id)
        assert row.error is not None
        assert (row.status, row.error.code) == ("failed", "sandbox_ended")


def test_a_provider_that_is_away_is_waited_for(background: Background, host: Host) -> None:
    execution_id = background.start("sleep 60")
    assert background.advance(execution_id).status == "running"
    settings = background.context.settings.model_copy(
        update={"e2b_api_url": "http://127.0.0.1:9", "e2b_sandbox_url": "http://127.0.0.1:9"}
    )
    away = Context(settings, background.context.database, type(background.context.provider)(settings))
    background.change(execution_id, due_at=func.now())
    for _ in range(6):
        background.change(execution_id, due_at=func.now() - timedelta(seconds=1))
        steps.advance(away, execution_id)
    assert background.row(execution_id).status == "running"
    background.cancel(execution_id)
    assert background.advance(execution_id).status == "cancelled"


def test_old_output_is_removed(background: Background) -> None:
    execution_id = background.start("echo a")
    background.ended(execution_id)
    assert execution_id in background.shell("ls -a /tmp/.executions")
    row = background.advance(execution_id)
    assert (row.has_output, row.due_at, row.status) == (False, None, "completed")
    assert execution_id not in background.shell("ls -a /tmp/.executions")


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
