"""A proxy in the environment does not stop calls to this machine."""

import os
import subprocess
import sys

import pytest

from workers.sandboxes.loopback import exempt_loopback_from_proxies

from .hosting import API_KEY, Host

# Nothing listens there, so a call through this proxy fails.
DEAD_PROXY = "http://127.0.0.1:9"
PROXIES = {name: DEAD_PROXY for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())}
PROGRAM = """
import asyncio, sys, uuid
from pathlib import Path
from api.domain.sandboxes import SandboxSpec
from api.settings import Settings
from workers.sandboxes.client import SandboxClient

url, key = sys.argv[1:]
client = SandboxClient(Settings(
    database_url="postgresql+psycopg://unused", redis_url="redis://unused", secret_key="x" * 32,
    models_dir=Path("unused"), e2b_api_key=key, e2b_api_url=url, e2b_sandbox_url=url,
))

async def main():
    assert (await client.status()).ok
    info = await client.create(SandboxSpec(uuid.uuid4().hex, "python", 60, {}))
    print((await client.execute(info.sandbox_id, "print(6 * 7)", language=None, timeout_s=30, max_output=100)).stdout)
    await client.kill(info.sandbox_id)

asyncio.run(main())
"""


def test_the_sandbox_host_of_this_machine_is_called_without_a_proxy(host: Host) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, host.url, API_KEY],
        env={**os.environ, **PROXIES},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example, localhost"}, "a.example,localhost,127.0.0.1,::1"),
        ({"no_proxy": "b.example", "NO_PROXY": "a.example"}, "a.example,b.example,127.0.0.1,localhost,::1"),
    ],
)
def test_entries_of_the_operator_are_kept(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exempt_loopback_from_proxies()
    exempt_loopback_from_proxies()
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == (expected, expected)
