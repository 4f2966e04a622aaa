"""`python -m workers.agent` in a separate process.

The control plane starts it like this in a sandbox.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.workers.agent.acting import Acting, key_of
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Autonomy

KEY = key_of("w1")


@contextmanager
def program(root: Path, level: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """Run the agent w1 with this autonomy level. The path of its root is short."""
    autonomy = Autonomy(enabled=True, level=level)
    config = AgentConfig(node_id="w1", role="worker", key=KEY, port=8123, threads=1, autonomy=autonomy)
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


def client(root: Path) -> httpx.Client:
    # One connection for each request: a slow server may close an idle connection during reuse.
    transport = httpx.HTTPTransport(uds=str(root / "run/8123.sock"), limits=httpx.Limits(max_keepalive_connections=0))
    return httpx.Client(transport=transport, base_url="http://agent", auth=Acting(KEY), timeout=60)


def health(root: Path, *, other_than: int = 0, within_s: float = 90) -> dict[str, Any]:
    """Return the health when the agent answers, from another process than `other_than`."""
    end = time.monotonic() + within_s
    with client(root) as http:
        while True:
            try:
                answer: dict[str, Any] = http.get("/health").json()
            except httpx.HTTPError:
                answer = {}
            if answer and answer["pid"] != other_than:
                return answer
            assert time.monotonic() < end, "the agent did not come up"
            time.sleep(0.05)
