"""Attacks that take minutes. `make hostile` runs them."""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.workers.sandboxes.hosting import run, spec

from .attacks import AttackSetup, attack_setup
from .test_bombs import watched_neighbour

pytestmark = [
    pytest.mark.skipif("HOSTILE" not in os.environ, reason="takes minutes; make hostile runs it"),
    pytest.mark.timeout(900),
]
SANDBOXES = 20


@pytest.fixture(scope="module", params=["own", "ordinary"])
def large_attack(request: pytest.FixtureRequest) -> Iterator[AttackSetup]:
    with attack_setup(request.param, "--memory-mb", "512", "--disk-mb", "20480", "--files", "400000") as attack:
        yield attack


def files_below(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def test_files_without_end_are_stopped_and_cleared_away(large_attack: AttackSetup) -> None:
    """It creates as many files as it can. The check that notices takes a while."""
    code = """
import itertools, os
for folder in itertools.count():
    os.mkdir(f"/data/{folder}")
    for number in range(1000):
        os.close(os.open(f"/data/{folder}/{number}", os.O_CREAT | os.O_WRONLY))
"""
    with watched_neighbour(large_attack) as took:
        assert large_attack.execute(code, timeout_s=600).exit_code == 137
        large_attack.wait_for_hit("files")
        started = time.monotonic()
        assert run(large_attack.client.kill(large_attack.attacker))
        print(f"a sandbox full of files was ended in {time.monotonic() - started:.1f} s")
        deadline = time.monotonic() + 300
        while files_below(large_attack.host.home / "trash"):
            assert time.monotonic() < deadline
            time.sleep(1)
        print(f"and its files were gone after {time.monotonic() - started:.1f} s")
    print(f"the neighbour's slowest answer: {max(took):.1f} s")


@pytest.mark.parametrize("user", ["own", "ordinary"])
def test_folders_in_one_another_are_cleared_away(user: str) -> None:
    with attack_setup(user) as attack:
        code = "import os\nos.chdir('/data')\nfor n in range(19_000):\n    os.mkdir('d')\n    os.chdir('d')\nos.chmod('.', 0)"
        assert attack.execute(code, timeout_s=120).exit_code == 0
        started = time.monotonic()
        assert run(attack.client.kill(attack.attacker))
        assert time.monotonic() - started < 20
        deadline = time.monotonic() + 120
        while any((attack.host.home / "trash").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert attack.answers(attack.neighbour)


@pytest.mark.parametrize("user", ["own", "ordinary"])
def test_twenty_sandboxes_at_once_all_hostile_but_one(user: str) -> None:
    attacks = (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        "blocks = []\nwhile True: blocks.append(bytearray(b'x' * (16 << 20)))",
        "n = 0\nwhile True:\n    n += 1\n    open(f'/data/{n}', 'wb').write(bytes(4 << 20))",
        "while True: print('x' * 10_000_000)",
    )
    with attack_setup(user, "--memory-mb", "256", "--disk-mb", "64", "--processes", "64", "--files", "20000") as attack:
        started = time.monotonic()
        with ThreadPoolExecutor(SANDBOXES) as threads:
            specs = [spec(uuid.uuid4().hex) for _ in range(SANDBOXES)]
            ids = [info.sandbox_id for info in threads.map(lambda one: run(attack.client.create(one)), specs)]
            print(f"{SANDBOXES} sandboxes at once: {time.monotonic() - started:.1f} s")
            with watched_neighbour(attack) as took:
                code = [attacks[number % len(attacks)] for number in range(SANDBOXES)]
                execute = lambda sandbox_id, text: run(  # noqa: E731
                    attack.client.execute(sandbox_id, text, language="python", timeout_s=15, max_output=10_000)
                )
                results = list(threads.map(execute, ids, code))
        assert all(result.exit_code != 0 for result in results)
        assert all(attack.hits(sandbox_id) for sandbox_id in ids), "every status names what stopped the sandbox"
        assert all(attack.answers(sandbox_id) for sandbox_id in ids)
        print(f"the neighbour's slowest answer {max(took):.1f} s")
