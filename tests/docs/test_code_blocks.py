"""The code blocks of the pages that teach are run, in their order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Walk

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
# Pages whose blocks are one script, and the name of the cluster in it.
RUN = {"get-started.md": "first"}
# Blocks that no test runs, and why.
NOT_RUN = {
    "README.md": "an index",
    "dashboard.md": "it starts a service and opens a browser",
    "experiment-tracking.md": "TensorBoard is not installed here; tests/workers/agent/serving/test_event_file.py reads with it",
    "monitoring.md": "tests/monitoring/ runs the same Prometheus and writes the same boards",
    "deploying.md": "Docker, Kubernetes or a registry is needed; tests/deploy checks the files",
    "sdk.md": "tests/e2e/sdk/test_clients.py runs the same generators, and the programs",
    "operating.md": "tests/api/cli and tests/e2e/test_backup.py run these commands",
    "traces.md": "it needs a collector; tests/e2e/test_traces.py has one",
    "sandboxes.md": "each block needs a sandbox of its own; tests/api/routes/test_executions.py sends the same requests",
}
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.skipif(not (shutil.which("jq") and shutil.which("bash")), reason="the blocks need bash and jq")


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.timeout(700)
@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run_in_their_order(stack: EmbeddedStack, tmp_path: Path, name: str) -> None:
    output = run("\n".join(blocks(DOCS / name)), stack, tmp_path)
    assert "training.completed" in output
    assert_ended(stack, RUN[name])


@pytest.mark.timeout(700)
def test_the_walkthrough_of_the_readme_has_twelve_lines_and_runs(stack: EmbeddedStack, tmp_path: Path) -> None:
    (walkthrough,) = [block for block in blocks(README) if block.startswith("api() {")]
    assert len(walkthrough.splitlines()) == 12
    output = run(walkthrough, stack, tmp_path)
    assert "training.completed" in output
    assert (tmp_path / "feedback_v1.tar").stat().st_size > 10_000
    assert_ended(stack, "feedback")


def run(script: str, stack: EmbeddedStack, folder: Path) -> str:
    """Run a script as a user of the stack, and return what it prints."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLOW_NEXUS_URL": stack.url,
        "FLOW_NEXUS_API_KEY": stack.api_key,
    }
    command = ["bash", "-c", f"set -euo pipefail\n{script}"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


def assert_ended(stack: EmbeddedStack, name: str) -> None:
    clusters = Walk(stack.url, stack.api_key).call("GET", "/v1/clusters", params={"limit": 100})["items"]
    mine = {cluster["status"] for cluster in clusters if cluster["name"] == name}
    assert mine
    assert mine <= {"terminating", "terminated"}


def test_every_other_block_says_why_it_is_not_run() -> None:
    with_blocks = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if blocks(page)}
    how_to = {name for name in with_blocks if name.startswith("how-to/")}  # commands of the tests themselves
    assert with_blocks - how_to <= {*RUN, *NOT_RUN}
    assert set(RUN) <= with_blocks
