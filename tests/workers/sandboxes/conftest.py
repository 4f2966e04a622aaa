"""A client of the module's host, and one sandbox for the tests of a module."""

import uuid
from collections.abc import Iterator

import pytest

from workers.sandboxes.client import SandboxClient

from .hosting import Host, run, spec


@pytest.fixture(scope="module")
def client(host: Host) -> SandboxClient:
    return host.client()


@pytest.fixture(scope="module")
def sandbox(client: SandboxClient) -> Iterator[str]:
    info = run(client.create(spec(uuid.uuid4().hex)))
    yield info.sandbox_id
    assert run(client.kill(info.sandbox_id))
