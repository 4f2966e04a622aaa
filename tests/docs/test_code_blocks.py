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
# Pages whose blocks are one script.
RUN = ("get-started.md",)
# Blocks that no test runs, and why.
NOT_RUN = {
    "README.md": "an index",
    "dashboard.md": "it starts a service and opens a browser",
    "sdk.md": "tests/e2e/sdk/test_clients.py runs the same generators, and the programs",
    "sandboxes.md": "each block needs a sandbox of its own; tests/api/routes/test_executions.py sends the same requests",
}
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.skipif(not (shutil.which("jq") and shutil.which("bash")), reason="the blocks need bash and jq")


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run_in_their_order(stack: EmbeddedStack, tmp_path: Path, name: str) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks(DOCS / name))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLOW_NEXUS_URL": stack.url,
        "FLOW_NEXUS_API_KEY": stack.api_key,
    }
    ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "training.completed" in ran.stdout
    clusters = Walk(stack.url, stack.api_key).call("GET", "/v1/clusters", params={"limit": 100})["items"]
    mine = [cluster["status"] for cluster in clusters if cluster["name"] == "first"]
    assert mine
    assert set(mine) <= {"terminating", "terminated"}


def test_every_other_block_says_why_it_is_not_run() -> None:
    with_blocks = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if blocks(page)}
    how_to = {name for name in with_blocks if name.startswith("how-to/")}  # commands of the tests themselves
    assert with_blocks - how_to <= {*RUN, *NOT_RUN}
    assert set(RUN) <= with_blocks
