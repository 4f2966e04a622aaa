"""`python -m workers.agent`: the program that the control plane starts in a sandbox."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.agent.programs import KEY, health, program
from workers.agent.protocol.admin import AgentConfig


@pytest.fixture
def root() -> Iterator[Path]:
    """Return a short path, because a socket's path may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        (Path(folder) / "run").mkdir()
        yield Path(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the process through /proc")
def test_an_agent_comes_up_hides_its_token_and_comes_up_again_after_a_kill(root: Path) -> None:
    # Just below the level at which a watchdog would restart it.
    with program(root, 0.29) as process:
        found = health(root)
        assert (found["node_id"], found["role"], found["pid"], found["threads"]) == ("w1", "worker", process.pid, 1)
        assert not (root / "agent.json").exists(), "the file with the token is gone"
        shown = (Path(f"/proc/{process.pid}/cmdline").read_bytes(), process.stdout.readline().encode())  # type: ignore[union-attr]
        assert not any(KEY.encode() in text for text in shown)
        line = json.loads(shown[1])
        assert (line["event"], line["node_id"], line["role"]) == ("ready", "w1", "worker")
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    with program(root) as process:
        assert health(root)["pid"] == process.pid, "the dead one's socket is not in the way"


def test_a_config_of_another_form_ends_the_program_without_showing_it(root: Path) -> None:
    (root / "agent.json").write_text(json.dumps({"node_id": "w1", "key": KEY}))
    done = subprocess.run(
        [sys.executable, "-m", "workers.agent", "--config", str(root / "agent.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert KEY not in done.stdout + done.stderr


def test_an_agent_that_waits_serves_as_soon_as_its_configuration_is_there(root: Path) -> None:
    ready, config = root / "waits", root / "run" / "agent.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.agent", "--wait", "--ready", str(ready), "--config", str(config)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SANDBOX_ROOT": str(root)},
    )
    try:
        end = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        (root / "partial").write_text(AgentConfig(node_id="w1", role="worker", key=KEY, port=8123, threads=1).model_dump_json())
        (root / "partial").rename(config)
        assert health(root)["pid"] == process.pid
        assert not config.exists(), "the file with the token is gone"
    finally:
        process.kill()
        process.wait(20)
