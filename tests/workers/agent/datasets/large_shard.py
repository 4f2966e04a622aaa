"""A shard much larger than the memory that is left, in a separate process.

`python -m tests.workers.agent.datasets.large_shard FOLDER MIB_OF_SHARD MIB_OF_MEMORY` writes the
shard, limits its own memory, and prints what check and batches gave as JSON.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch

from tests.workers.agent.texts import LABELS, samples, spec
from workers.agent.datasets.shards import check
from workers.agent.modeling.cache import ModelCache
from workers.agent.protocol.training import CheckShard
from workers.agent.runtime import process
from workers.agent.runtime.paths import SandboxRoot

_WORDS = 60
_BATCHES = 100


def write(path: Path, size: int) -> int:
    """Write JSON Lines of about `size` bytes. Return the number of rows."""
    count = 0
    words = " ".join(f"word{number}" for number in range(_WORDS))
    with path.open("w") as file:
        while file.tell() < size:
            for row in samples(3000, count):
                file.write(json.dumps({**row, "text": f"{row['text']} {words}"}) + "\n")
            count += 3000
    return count


def limit(more: int) -> None:
    """Limit the private memory of this process to its current use plus `more` bytes."""
    process.free_memory()
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + more, resource.RLIM_INFINITY))


def main() -> None:
    torch.set_num_threads(1)
    process.limit_memory_arenas()
    root = SandboxRoot(Path(sys.argv[1]))
    rows = write(root.folder / "shard.jsonl", int(sys.argv[2]) * 2**20)
    cache = ModelCache(root)
    cache.network(spec(labels=LABELS))
    limit(int(sys.argv[3]) * 2**20)
    report = check(root, CheckShard(dataset="/shard.jsonl"), "w1")
    shard = cache.shard(spec(labels=LABELS), "/shard.jsonl")
    order = np.random.default_rng(0).permutation(len(shard.training))
    tokens = sum(int(shard.training.batch(order[start : start + 32])[1].sum()) for start in range(0, 32 * _BATCHES, 32))
    found = {
        "rows": rows,
        "problem": report.problem and report.problem.code,
        "samples": report.samples,
        "training": len(shard.training),
        "held_out": len(shard.held_out),
        "tokens": tokens,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
