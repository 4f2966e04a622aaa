"""The supervisor with small real child processes."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api.embedded import supervisor
from api.embedded.errors import StackError, StackInterruptedError
from api.embedded.process import ServiceSpec
from api.embedded.supervisor import Supervisor


@dataclass
class Bench:
    """A supervisor, its messages, and a way to make services from shell scripts."""

    folder: Path
    messages: list[str] = field(default_factory=list)
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.lock = (self.folder / "lock").open("w")
        self.supervisor = Supervisor(self.messages.append, self.lock.fileno(), lambda: self.interrupted)

    def service(self, name: str, script: str, *, ready: str = "up", stop_timeout_s: float = 3.0) -> ServiceSpec:
        """Return a service. It is ready once its current process has logged the text `ready`."""
        log = self.folder / f"{name}.log"
        return ServiceSpec(
            name,
            ["/bin/sh", "-c", script],
            {"PATH": os.environ["PATH"], "NAME": name, "FOLDER": str(self.folder)},
            log,
            lambda size: ready.encode() in log.read_bytes()[size:],
            stop_timeout_s=stop_timeout_s,
        )

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not done():
            assert time.monotonic() < end, self.messages
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.supervisor.stop()
    bench.lock.close()


def test_what_dies_is_restarted_with_growing_pauses(bench: Bench) -> None:
    bench.supervisor.start(bench.service("flaky", "echo up; sleep 0.3; exit 3"))
    bench.supervisor.watch()
    bench.until(lambda: sum("died" in line for line in bench.messages) == 2)
    log = bench.folder / "flaky.log"
    died = [line for line in bench.messages if "died" in line]
    assert died == [f"flaky      died with exit code 3; restarting in {pause} s (log: {log})" for pause in ("0.5", "1.0")]
    assert [line.split()[:2] for line in bench.messages if "ready" in line] == [["flaky", "ready"]] * 2


def test_a_killed_part_comes_back_and_the_others_stay(bench: Bench) -> None:
    for name in ("one", "two"):
        bench.supervisor.start(bench.service(name, "echo up; exec sleep 60"))
    bench.supervisor.watch()
    one, two = bench.supervisor.pid("one"), bench.supervisor.pid("two")
    bench.supervisor.kill("one")
    bench.until(lambda: len(bench.messages) == 4)
    assert bench.messages[2].startswith("one        died with exit code -9")
    assert bench.messages[3].startswith("one        ready")
    assert bench.supervisor.pid("one") != one
    assert bench.supervisor.pid("two") == two


def test_the_last_started_stops_first(bench: Bench) -> None:
    script = 'trap \'echo "$NAME" >> "$FOLDER/order"; exit 0\' TERM; echo up; while :; do sleep 0.02; done'
    for name in ("postgres", "worker", "api"):
        bench.supervisor.start(bench.service(name, script))
    bench.supervisor.stop()
    assert (bench.folder / "order").read_text().split() == ["api", "worker", "postgres"]


def test_who_does_not_listen_is_killed_with_all_it_started(bench: Bench) -> None:
    script = "trap '' TERM; sleep 600 & echo $! > \"$FOLDER/grandchild\"; echo up; wait; sleep 600"
    bench.supervisor.start(bench.service("stubborn", script, stop_timeout_s=0.2))
    pid, grandchild = bench.supervisor.pid("stubborn"), int((bench.folder / "grandchild").read_text())
    bench.supervisor.stop()
    bench.until(lambda: not alive(pid) and not alive(grandchild))


def test_stubborn_parts_share_one_deadline(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WHOLE_STOP_S", 1.0)
    monkeypatch.setattr(supervisor, "_RESERVE_S", 0.1)
    for number in range(4):
        bench.supervisor.start(bench.service(f"part{number}", "trap '' TERM; echo up; sleep 600; sleep 600", stop_timeout_s=60))
    pids = [bench.supervisor.pid(f"part{number}") for number in range(4)]
    bench.supervisor.stop()
    bench.until(lambda: not any(alive(pid) for pid in pids))


def test_a_part_that_ends_while_it_starts(bench: Bench) -> None:
    log = bench.folder / "broken.log"
    with pytest.raises(StackError, match=f"broken ended with exit code 4; see {log}"):
        bench.supervisor.start(bench.service("broken", "exit 4"))


def test_a_part_that_does_not_exist(bench: Bench) -> None:
    service = ServiceSpec("absent", [str(bench.folder / "absent")], {}, bench.folder / "absent.log", lambda _: False)
    with pytest.raises(StackError, match="absent cannot be started"):
        bench.supervisor.start(service)


def test_an_earlier_life_does_not_make_a_part_ready(bench: Bench) -> None:
    (bench.folder / "late.log").write_text("up\n")
    with pytest.raises(StackError, match="late ended with exit code 5"):
        bench.supervisor.start(bench.service("late", "exit 5"))


def test_an_interrupted_start(bench: Bench) -> None:
    bench.interrupted = True
    with pytest.raises(StackInterruptedError):
        bench.supervisor.start(bench.service("slow", "exec sleep 60"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children when their parent dies")
def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.api.embedded.test_supervisor import Bench
bench = Bench(Path({str(tmp_path)!r}))
bench.supervisor.start(bench.service("part", "echo up; exec sleep 600"))
print(bench.supervisor.pid("part"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    import subprocess

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    end = time.monotonic() + 10
    while alive(int(ended.stdout)):
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
