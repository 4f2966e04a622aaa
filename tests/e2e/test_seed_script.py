"""The walkthrough's script against the embedded stack. Only the command's name is changed."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Walk, samples

SCRIPT = Path(__file__).parent / "seed" / "train_distributed.sh"
pytestmark = [
    pytest.mark.timeout(420),
    pytest.mark.skipif(not (shutil.which("jq") and shutil.which("bash")), reason="the script needs bash and jq"),
]


def test_the_script_runs_to_its_end(stack: EmbeddedStack, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(1, 5):
        shard = tmp_path / "data" / f"customer_feedback_shard_{number}.json"
        shard.write_text(json.dumps(samples(60, number * 10_000)))
    # The script polls every 30 seconds. With this test's little data, every second is better.
    (tmp_path / "bin").mkdir()
    short_sleep = tmp_path / "bin" / "sleep"
    short_sleep.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 1\n")
    short_sleep.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{short_sleep.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLOW_NEXUS_URL": stack.url,
        "FLOW_NEXUS_API_KEY": stack.api_key,
    }
    walk = Walk(stack.url, stack.api_key)
    before = {item["cluster_id"] for item in walk.call("GET", "/v1/clusters", params={"limit": 100})["items"]}
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        script = subprocess.Popen(["bash", SCRIPT], cwd=tmp_path, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            cluster_id = _upload_the_test_file(walk, before)
            assert script.wait(timeout=400) == 0, log.read_text()
        finally:
            script.kill()
            script.wait()
    text = log.read_text()
    assert "Epoch 50/50" in text
    assert '"aggregation": "ensemble"' in text
    assert "Distributed training workflow complete!" in text
    # The training ends a few seconds after its last epoch, when its graphs are made.
    assert walk.until(cluster_id, "completed")["epoch"] == 50
    walk.terminate(cluster_id)


def _upload_the_test_file(walk: Walk, before: set[str]) -> str:
    """Upload the test file to the parameter server.

    That is step 5.1 of the walkthrough, which its script leaves out.
    """
    end = time.monotonic() + 200
    while time.monotonic() < end:
        new_clusters = [item for item in walk.call("GET", "/v1/clusters")["items"] if item["cluster_id"] not in before]
        for cluster in new_clusters:
            nodes = walk.call("GET", f"/v1/clusters/{cluster['cluster_id']}/nodes")["items"]
            for node in nodes:
                if node["role"] == "aggregator" and node["status"] == "running":
                    walk.upload(node["node_id"], "/data/test.json", samples(40, 95_000), status=201)
                    return str(cluster["cluster_id"])
        time.sleep(0.5)
    raise AssertionError("the script's parameter server did not come up")
