"""Token ids on disk: the same as in memory, written once, and bounded in memory and disk."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.workers.agent.datasets.reference_split import split
from tests.workers.agent.texts import samples, spec
from workers.agent.datasets.reading import Reading
from workers.agent.datasets.shards import check, read
from workers.agent.modeling.cache import ModelCache
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.training import CheckShard
from workers.agent.runtime import disk
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

SHARD = "/data/train.json"


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "data").mkdir()
    put(tmp_path, 3000)
    return SandboxRoot(tmp_path)


def put(folder: Path, count: int, name: str = "train.json") -> None:
    rows = samples(count)
    (folder / "data" / name).write_text(json.dumps(rows + rows[: count // 4]))


def rows_read(root: SandboxRoot, dataset: str = SHARD, *, hold_out: bool = True) -> int:
    """Return how many rows a new agent reads until it has the shard."""
    reading = Reading()
    ModelCache(root).write_tokens(spec(), dataset, DataFormat(), reading, hold_out=hold_out)
    return reading.rows


def folders(root: SandboxRoot) -> set[str]:
    return {path.name for path in root.encoded.iterdir()}


def test_they_are_those_of_the_texts_in_memory(root: SandboxRoot) -> None:
    cache = ModelCache(root)
    shard = cache.shard(spec(), SHARD)
    for found, part in zip((shard.training, shard.held_out), split(read(root, SHARD)), strict=True):
        wanted = cache.network(spec()).encoded(part.texts, part.labels)
        assert found.ids.tolist() == wanted.ids.tolist()
        assert found.offsets.tolist() == wanted.offsets.tolist()
        assert found.targets(np.arange(len(found))).tolist() == wanted.targets(np.arange(len(wanted))).tolist()
        assert found.digest() == wanted.digest()


def test_a_restarted_agent_and_another_training_read_the_files_once(root: SandboxRoot) -> None:
    assert rows_read(root) == 3750
    assert rows_read(root) == 0
    assert len(ModelCache(root).shard(spec(seed=9), SHARD).training) > 3000
    assert len(folders(root)) == 1
    assert rows_read(root, hold_out=False) == 3750
    put(root.folder, 3001)
    assert rows_read(root) == 3751


def test_only_the_two_that_were_used_last_stay_on_disk(root: SandboxRoot) -> None:
    for number in range(4):
        put(root.folder, 40, f"{number}.json")
        rows_read(root, f"/data/{number}.json")
    assert len(folders(root)) == 2
    assert rows_read(root, "/data/3.json") == 0


def test_what_a_killed_agent_left_is_replaced(root: SandboxRoot) -> None:
    rows_read(root)
    (whole,) = root.encoded.iterdir()
    ids = whole / "training.ids"
    ids.write_bytes(ids.read_bytes()[:-4])
    (root.encoded / "unfinished-0").mkdir()
    assert rows_read(root) == 3750
    assert folders(root) == {whole.name}


def test_a_shard_that_the_disk_cannot_hold_is_refused_by_name(root: SandboxRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(disk.LIMIT_VARIABLE, str(2**28 + 2**18))
    report = check(root, CheckShard(dataset=SHARD), "w1")
    assert report.problem is not None
    assert report.problem.code == "not_enough_disk"
    assert "(limit: disk)" in report.problem.message
    with pytest.raises(DataError) as caught:
        ModelCache(root).shard(spec(), SHARD)
    assert caught.value.code == "not_enough_disk"


def test_more_samples_than_fit_into_memory_are_refused_before_the_end(
    root: SandboxRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_MEMORY_BYTES", str(2**26))
    lines = "".join(f'{{"text": "{number}", "label": "{number % 3}"}}\n' for number in range(200_000))
    (root.folder / "data/many.jsonl").write_text(lines)
    reading = Reading()
    report = check(root, CheckShard(dataset="/data/many.jsonl"), "w1", reading)
    assert report.problem is not None
    assert report.problem.code == "not_enough_memory"
    assert "(limit: memory)" in report.problem.message
    assert reading.rows < 70_000


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts private memory on Linux alone")
def test_a_shard_much_larger_than_the_memory_is_checked_tokenised_and_batched(tmp_path: Path) -> None:
    """The texts of this shard alone would take more than 60 MiB, twice as much as is left."""
    command = [sys.executable, "-m", "tests.workers.agent.datasets.large_shard", str(tmp_path), "60", "32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["problem"] is None
    assert found["samples"] == found["rows"] == found["training"] + found["held_out"]
    assert found["held_out"] == pytest.approx(found["rows"] / 10, rel=0.01)
    assert found["tokens"] > 32 * 100 * 20
