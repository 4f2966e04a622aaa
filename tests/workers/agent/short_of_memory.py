"""Local training with a real memory limit, in a separate process.

A process must not continue after an allocation has failed.
`python -m tests.workers.agent.short_of_memory FOLDER` prints the result of each case as JSON.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from tests.workers.agent.jobs import job
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import samples, spec
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import Autonomy
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime import process
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.training import declining
from workers.agent.training.local_epochs import train

LARGE = 2048
WANTED = Hyperparameters(batch_size=LARGE, learning_rate=0.01, optimizer="adam", seed=3)


def leave(more: int, share: float = 1.0) -> None:
    """Limit the memory of this process to its current use plus `more` bytes.

    The current use is `share` of the limit.
    """
    process.free_memory()
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (int(pages * resource.getpagesize() / share) + more, resource.RLIM_INFINITY))


def encoded(network: Network, count: int, words: int) -> EncodedShard:
    parts = samples(count), samples(12, 100_000)
    return EncodedShard(
        *(
            network.encoded([" ".join([row["text"]] * words) for row in part], [row["sentiment"] for row in part])
            for part in parts
        )
    )


def outcome(network: Network, shard: EncodedShard, level: float, hyperparameters: Hyperparameters) -> dict[str, Any]:
    try:
        trained = train(network, shard, job(hyperparameters, autonomy=Autonomy(enabled=True, level=level)))
    except AgentError as error:
        return {"code": error.code, "message": error.message}
    return {"loss": trained.loss, "decisions": [[decision.action, decision.reason] for decision in trained.decisions]}


def main() -> None:
    torch.set_num_threads(1)
    process.limit_memory_arenas()
    root = Path(sys.argv[1])
    save_tiny_bert(root / "models/tiny")
    network = build(spec("/models/tiny", max_length=64), SandboxRoot(root))
    large, small = encoded(network, LARGE, 8), encoded(network, 64, 1)
    usual = WANTED.model_copy(update={"batch_size": 64})
    outcome(network, small, 0.0, usual)
    results: dict[str, Any] = {}
    leave(0, share=0.93)
    results["nearly_full_0.59"] = outcome(network, small, 0.59, usual)
    results["nearly_full_0.6"] = outcome(network, small, 0.6, usual)
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    base = build(spec("base"), SandboxRoot(root))
    leave(8 * 2**20)
    results["declined"] = declining.reason(base, small, WANTED, root)
    for level in (0.6, 0.59):
        leave(0, share=0.8)
        results[f"failing_{level}"] = outcome(network, large, level, WANTED)
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
