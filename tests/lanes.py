"""Mark tests as `unit`, `stack` and `slow`, by their location and by their fixtures.

unit: needs no Postgres, no sandbox host and no torch, and reaches nothing outside this machine.
stack: needs the whole embedded stack.
slow: takes more than about 20 s.

A test that is neither `unit` nor `stack` uses a database, a sandbox host, or torch.
"""

import socket
from pathlib import PurePosixPath
from typing import Any

import pytest

_STACK_FIXTURES = {"stack"}
_STACK_PLACES = ("tests/e2e", "tests/packaging", "tests/api/cli/test_up.py")
_REAL_FIXTURES = {"postgres_folder", "host", "own_host"}
# They import torch, start sandbox hosts without a fixture, or need what only those start.
_REAL_PLACES = (
    *_STACK_PLACES,
    "tests/fuzz",
    "tests/workers/agent",
    "tests/workers/sandboxes/hostile",
    "tests/workers/sandboxes/test_warm.py",
    "tests/workers/steps",
    "tests/workers/test_agent_client.py",
)
_SLOW_PLACES = (
    "tests/browser",
    "tests/e2e",
    "tests/fuzz",
    "tests/monitoring/test_prometheus.py",
    "tests/packaging",
    "tests/workers/sandboxes/hostile/test_long.py",
)


def mark(item: pytest.Item) -> None:
    """Give a collected test the markers of its lanes."""
    fixtures = set(getattr(item, "fixturenames", ()))
    path = item.nodeid.partition("::")[0]
    if fixtures & _STACK_FIXTURES or _is_in(path, _STACK_PLACES):
        item.add_marker(pytest.mark.stack)
    elif not fixtures & _REAL_FIXTURES and not _is_in(path, _REAL_PLACES):
        item.add_marker(pytest.mark.unit)
    if _is_in(path, _SLOW_PLACES):
        item.add_marker(pytest.mark.slow)


def holds_no_unit_tests(path: str) -> bool:
    """Return whether no unit test lies at this path, relative to the repository."""
    return _is_in(path, _REAL_PLACES)


def refuse_other_machines(patch: pytest.MonkeyPatch) -> None:
    """Let sockets reach this machine only."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a unit test reaches for {address[0]}")
        connect(self, address)

    patch.setattr(socket.socket, "connect", local_only)


def _is_in(path: str, places: tuple[str, ...]) -> bool:
    return any(PurePosixPath(path).is_relative_to(place) for place in places)
