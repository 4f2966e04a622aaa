"""`/readyz` on a real stack whose parts are frozen one by one."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.embedded.stack import EmbeddedStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")]


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    with tempfile.TemporaryDirectory(prefix="ready-") as folder, pytest.MonkeyPatch.context() as patch:
        # No test here has a node, and a warm agent's libraries take seconds to import.
        patch.setenv("FLOW_NEXUS_WARM_AGENTS", "off")
        with EmbeddedStack(Path(folder) / "home", port=0) as running:
            yield running


def _until(stack: EmbeddedStack, status: int, within_s: float) -> dict[str, Any]:
    end = time.monotonic() + within_s
    while True:
        answer = httpx.get(f"{stack.url}/readyz", timeout=30)
        if answer.status_code == status:
            return dict(answer.json())
        assert time.monotonic() < end, answer.text
        time.sleep(0.5)


def _down(body: dict[str, Any]) -> set[str]:
    return {name for name, part in body.items() if isinstance(part, dict) and not part["ok"]}


@pytest.mark.parametrize(
    ("service", "part", "within_s"), [("sandboxes", "sandboxes", 30), ("redis", "broker", 30), ("worker", "steps", 90)]
)
def test_a_frozen_part_is_down_and_comes_back(stack: EmbeddedStack, service: str, part: str, within_s: float) -> None:
    assert _until(stack, 200, 60)["ready"] is True
    pid = stack.pid(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        body = _until(stack, 503, within_s)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert part in _down(body)
    assert "Start" in (body[part].get("detail") or body[part].get("warning"))
    _until(stack, 200, 60)
