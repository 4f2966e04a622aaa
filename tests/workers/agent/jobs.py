"""Tasks for tests of local training."""

import threading
from typing import Any

from workers.agent.protocol.common import Autonomy
from workers.agent.protocol.training import Hyperparameters
from workers.agent.training.local_epochs import LocalTrainingTask


def job(hyperparameters: Hyperparameters, **fields: Any) -> LocalTrainingTask:
    """Return a task: by default round 1, without autonomy and without a commitment."""
    common: dict[str, Any] = {
        "number": 1,
        "autonomy": Autonomy(),
        "base_digest": "0" * 64,
        "commit": False,
        "stop": threading.Event(),
        "progress": lambda _part: None,
    }
    return LocalTrainingTask(hyperparameters=hyperparameters, **{**common, **fields})
