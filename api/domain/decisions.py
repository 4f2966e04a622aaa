"""What a node may decide by itself, as answers and events name it.

The agent has the levels of autonomy (`workers/agent/runtime/autonomy.py`).
"""

from typing import Annotated, Literal

from api.domain.words import Words

DecisionAction = Annotated[
    Literal[
        "retry_transfer",
        "restart_agent",
        "resume_round",
        "halve_batch",
        "halve_learning_rate",
        "stop_early",
        "decline_round",
        "start_from_mean",
        "clip_update",
        "ignore_mixed_precision",
    ],
    Words("DecisionAction", "What a node did by its own decision."),
]
