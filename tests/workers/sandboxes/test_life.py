"""Sandboxes end when their time is over, and stop with the host.

They come back after a restart of the host, as machines do after a power cut.
"""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.domain.sandboxes import SandboxNotFoundError

from .hosting import Host, descendants, processes_marked, run, spec, stopped, stream

KEPT = 'cat "${SANDBOX_ROOT-}/data/kept.txt"'
linux = pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")


@pytest.fixture
def own_host(tmp_path: Path) -> Iterator[Host]:
    running = Host(tmp_path / "home")
    yield running
    running.stop()


@pytest.fixture
def warm_host(tmp_path: Path) -> Iterator[Host]:
    """A host that forks sandboxes, where this machine allows it."""
    running = Host(tmp_path / "home", warm=True)
    yield running
    running.stop()


def wait_until(reached: object, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@linux
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_host_and_sandboxes_come_back(warm_host: Host, ending: signal.Signals) -> None:
    client = warm_host.client()
    info = run(client.create(spec(uuid.uuid4().hex, timeout_s=60, mark="1")))
    run(client.upload(info.sandbox_id, "/data/kept.txt", stream(b"kept")))
    before = run(client.endpoint(info.sandbox_id, 8000))
    mark = f"7{uuid.uuid4().int % 10**8}"
    # Only a process namespace also ends a process that left its session.
    leaving = "" if warm_host.health["isolation"] == "none" else "setsid"
    run(client.start(info.sandbox_id, f"{leaving} sleep {mark} & exec sleep {mark}"))
    wait_until(lambda: len(processes_marked(mark)) >= 2)

    warm_host.stop(ending)
    wait_until(lambda: not processes_marked(mark))
    wait_until(lambda: not processes_marked(str(warm_host.home)))
    time.sleep(2)

    warm_host.start()
    client = warm_host.client()
    (found,) = run(client.list({"mark": "1"}))
    assert found.sandbox_id == info.sandbox_id
    assert (found.end_at - info.end_at).total_seconds() >= 1.5, "the time that the host was down does not count"
    back = run(client.run(info.sandbox_id, KEPT, timeout_s=10, max_output=100))
    assert back.stdout == "kept"
    assert run(client.endpoint(info.sandbox_id, 8000)).headers == before.headers
    assert processes_marked(mark) == []


def test_a_sandbox_ends_when_its_time_is_over(own_host: Host) -> None:
    client = own_host.client()
    info = run(client.create(spec(uuid.uuid4().hex, timeout_s=1)))
    folder = own_host.home / "sandboxes" / info.sandbox_id
    assert folder.is_dir()
    wait_until(lambda: not folder.exists())
    with pytest.raises(SandboxNotFoundError):
        run(client.get(info.sandbox_id))


def test_a_sandbox_does_not_end_because_the_machine_slept(own_host: Host) -> None:
    client = own_host.client()
    info = run(client.create(spec(uuid.uuid4().hex, timeout_s=5)))
    with stopped([own_host.pid]):
        time.sleep(8)
    time.sleep(2)
    found = run(client.get(info.sandbox_id))
    assert (found.end_at - info.end_at).total_seconds() > 40, "after waking there is a grace period"
    assert run(client.run(info.sandbox_id, "echo alive", timeout_s=10, max_output=100)).stdout == "alive\n"


def test_an_expired_sandbox_does_not_come_back(own_host: Host) -> None:
    client = own_host.client()
    info = run(client.create(spec(uuid.uuid4().hex, timeout_s=300)))
    run(client.kill(info.sandbox_id))
    half_made = own_host.home / "sandboxes" / "ihalf"
    half_made.mkdir()
    own_host.stop(signal.SIGKILL)
    own_host.start()
    assert run(own_host.client().list({})) == []
    assert not half_made.exists()


@linux
def test_a_sandbox_whose_first_process_dies_is_started_again(warm_host: Host) -> None:
    client = warm_host.client()
    info = run(client.create(spec(uuid.uuid4().hex)))
    run(client.upload(info.sandbox_id, "/data/kept.txt", stream(b"kept")))
    first = next(pid for pid in descendants(warm_host.pid) if "envd" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
    os.kill(first, signal.SIGKILL)

    def answers() -> bool:
        try:
            return run(client.run(info.sandbox_id, KEPT, timeout_s=10, max_output=100)).stdout == "kept"
        except Exception:
            return False

    wait_until(lambda: first not in descendants(warm_host.pid))
    wait_until(answers)
    assert run(client.get(info.sandbox_id)).sandbox_id == info.sandbox_id


def test_a_second_host_on_the_same_home_gives_up(own_host: Host) -> None:
    with pytest.raises(AssertionError, match="another sandbox host runs"):
        Host(own_host.home)


def test_state_is_private_to_the_host(own_host: Host) -> None:
    info = run(own_host.client().create(spec(uuid.uuid4().hex)))
    folder = own_host.home / "sandboxes" / info.sandbox_id
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "state.json").stat().st_mode & 0o077 == 0
