"""`python -m workers.agent`: the program as the control plane starts it in a sandbox."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from workers.agent.protocol import AgentConfig

TOKEN = "token-of-the-tests"


@pytest.fixture
def root() -> Iterator[Path]:
    """A short path: a socket's name may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        (Path(folder) / "run").mkdir()
        yield Path(folder)


@contextmanager
def program(root: Path, *, threads: int | None = 1) -> Iterator[subprocess.Popen[str]]:
    config = AgentConfig(node_id="w1", role="worker", token=TOKEN, port=8123, threads=threads)
    path = root / "agent.json"
    path.write_text(config.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.agent", "--config", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SANDBOX_ROOT": str(root)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()  # type: ignore[union-attr]


def health(root: Path, within_s: float = 90) -> dict[str, object]:
    transport = httpx.HTTPTransport(uds=str(root / "run/8123.sock"))
    end = time.monotonic() + within_s
    with httpx.Client(transport=transport, base_url="http://agent", headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        while True:
            try:
                answer: dict[str, object] = http.get("/health").json()
            except httpx.HTTPError:
                assert time.monotonic() < end, "the agent did not come up"
                time.sleep(0.05)
            else:
                return answer


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the process through /proc")
def test_an_agent_comes_up_hides_its_token_and_comes_up_again_after_a_kill(root: Path) -> None:
    with program(root) as process:
        found = health(root)
        assert (found["node_id"], found["role"], found["pid"], found["threads"]) == ("w1", "worker", process.pid, 1)
        assert not (root / "agent.json").exists(), "the file with the token is gone"
        shown = (Path(f"/proc/{process.pid}/cmdline").read_bytes(), process.stdout.readline().encode())  # type: ignore[union-attr]
        assert not any(TOKEN.encode() in text for text in shown)
        line = json.loads(shown[1])
        assert (line["event"], line["node_id"], line["role"]) == ("ready", "w1", "worker")
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    with program(root) as process:
        assert health(root)["pid"] == process.pid, "the dead one's socket is not in the way"


def test_a_config_of_another_form_ends_the_program_without_showing_it(root: Path) -> None:
    (root / "agent.json").write_text(json.dumps({"node_id": "w1", "token": TOKEN}))
    done = subprocess.run(
        [sys.executable, "-m", "workers.agent", "--config", str(root / "agent.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert TOKEN not in done.stdout + done.stderr
