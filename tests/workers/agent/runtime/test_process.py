import json
import os
import subprocess
import sys

import pytest

from workers.agent.runtime import process
from workers.agent.runtime.logs import Log


def test_figures_are_this_machines() -> None:
    assert 1 <= process.cpu_cores() <= (os.cpu_count() or 1)
    memory, resident = process.memory_gb(), process.rss_mb()
    assert memory is not None
    assert 0 < resident / 1024 < memory


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and malloc's arenas are Linux's")
def test_a_hardened_process_cannot_be_looked_into_and_has_few_threads() -> None:
    code = (
        "import ctypes, os; from workers.agent.runtime import process; process.harden(); process.limit_memory_arenas();"
        "process.limit_threads(3);"
        "print(ctypes.CDLL(None).prctl(3), os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "3", "3"], "PR_GET_DUMPABLE is 0"


def test_the_collector_rests_while_something_is_imported_and_leaves_it_alone_after() -> None:
    code = """
import gc
from workers.agent.runtime import process
for name in ("sys", "decimal"):
    with process.importing():
        __import__(name)
        print(gc.isenabled(), end=" ")
    print(gc.isenabled(), gc.get_freeze_count() > 1000, end=" ")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True", "False", "False", "True", "True"], "nothing new is no reason to freeze"


def test_a_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    Log("w1")("round", state="done", seconds=1.5, problem=None)
    Log("w1")("odd", text="two\nlines")
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first.pop("time") > 0
    assert first == {"node_id": "w1", "event": "round", "state": "done", "seconds": 1.5, "problem": None}
    assert second["text"] == "two\nlines"


@pytest.mark.skipif(sys.platform != "linux", reason="forks as the sandbox host does on Linux")
def test_forks_of_one_process_draw_different_random_numbers() -> None:
    code = """
import os, random
import numpy, torch
from workers.agent.runtime import process

for number in range(2):
    if os.fork() == 0:
        process.draw_seeds()
        print(random.random(), numpy.random.rand(), torch.rand(1).item(), flush=True)
        os._exit(0)
    os.wait()
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    first, second = (line.split() for line in shown.splitlines())
    assert all(one != other for one, other in zip(first, second, strict=True))
