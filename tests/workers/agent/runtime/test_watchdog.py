"""The watchdog restarts a dead agent, which then resumes its round."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.workers.agent import agents
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.programs import KEY, client, health, program
from workers.agent.protocol.common import Autonomy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the processes through /proc")


@pytest.fixture
def root() -> Iterator[Path]:
    """Return a short path: a socket's name may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        (Path(folder) / "run").mkdir()
        yield Path(folder)


def visible(pid: int) -> bytes:
    """Return what another process can read of this one."""
    found = b""
    for name in ("cmdline", "environ"):
        try:
            found += Path(f"/proc/{pid}/{name}").read_bytes()
        except PermissionError:
            continue
    return found


def test_from_0_3_a_dead_agent_starts_again_and_its_round_goes_on_to_the_same_model(root: Path) -> None:
    save_tiny_bert(root / "models/tiny")
    (root / "data").mkdir()
    with agents.federation(1) as undisturbed, program(root, 0.3) as process:
        undisturbed.hyperparameters |= {"local_epochs": 40, "batch_size": 2}
        (worker,) = undisturbed.workers
        shutil.copy(worker.root / "data/train_0.json", root / "data")
        first = health(root)["pid"]
        assert first != process.pid, "the watchdog stands by"
        with client(root) as http:
            disturbed = agents.LiveAgent("w1", root, worker.peer, http)
            autonomy = Autonomy(enabled=True, level=0.3)
            undisturbed.train(disturbed, autonomy=autonomy)
            checkpoint = root / "model" / agents.TRAINING / "round.checkpoint"
            end = time.monotonic() + 30
            while agents.report(disturbed, 1, "worker", wait_s=0)["progress"] < 0.2 or not checkpoint.exists():
                assert time.monotonic() < end
            os.kill(first, signal.SIGKILL)
            second = health(root, other_than=first)["pid"]
            for pid in (process.pid, second):
                assert KEY.encode() not in visible(pid)
            assert not (root / "agent.json").exists()
            undisturbed.train(disturbed, autonomy=autonomy)
            found = undisturbed.trained(disturbed)
        assert found["state"] == "done"
        restart, resume = found["decisions"]
        assert (restart["action"], restart["reason"]) == ("restart_agent", "the agent ended with signal SIGKILL")
        assert resume["action"] == "resume_round"
        assert not resume["reason"].endswith("local epoch 1 after 0 batches")
        assert not checkpoint.exists(), "the round is done"
        undisturbed.train(worker)
        assert undisturbed.trained(worker)["state"] == "done"
        models = [load_file(place / "model" / agents.TRAINING / "local.safetensors") for place in (root, worker.root)]
        assert all(models[0][name].equal(models[1][name]) for name in models[1])
        process.terminate()
        assert process.wait(20) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(second, 0)
