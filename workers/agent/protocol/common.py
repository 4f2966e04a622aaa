"""The base of all messages, and the parts that several groups of messages share."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DecisionAction = Literal[
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
]


class Message(BaseModel):
    """A frozen message. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Autonomy(Message):
    """How much a node may decide by itself. `level` is 0..1 and counts only when `enabled`."""

    enabled: bool = False
    level: float = 0.0

    def allows(self, least: float) -> bool:
        """Return whether the node may take an action that needs at least the level `least`."""
        return self.enabled and self.level >= least


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Decision(Message):
    """One autonomous action of a node.

    `at` is the UTC time in ISO format. It distinguishes decisions of the same kind.
    """

    action: DecisionAction
    reason: str = Field(description="The reason in words, without data.")
    at: str = Field(default_factory=_now)


class Peer(Message):
    """The address of another agent, as seen from inside a sandbox."""

    node_id: str
    url: str
    headers: dict[str, str] = Field({}, repr=False)
    uds: str | None = Field(None, description="Path of a Unix socket to connect to instead of TCP.")
    token: str | None = Field(None, repr=False, description="Token of the receiver of this message at that agent.")


class AgentProblem(Message):
    """Why something failed. `code` is stable snake_case, `message` is text without data."""

    code: str
    message: str


class ModelSpec(Message):
    """Which network to build. The same spec gives the same initial weights on every agent."""

    architecture: str
    model: str
    labels: list[str] = Field(description="Class names in output order.")
    max_length: int = Field(128, description="Tokens; longer texts are cut.")
    seed: int = 0
    lora_rank: int = Field(0, ge=0, description="Rank of the adapters; 0 trains the weights without adapters.")
    initial_digest: str | None = Field(
        None, description="Model that the training began from. It tells apart trainings that are alike in all else."
    )


class LinkUse(Message):
    """The data that one agent sent to another in a round.

    `bytes` counts bodies. `seconds` counts from the first to the last byte of each body.
    """

    source: str
    target: str
    bytes: int
    seconds: float


class StopResult(Message):
    """Whether the agent has ended what it was doing."""

    stopped: bool


class UploadResult(Message):
    """Whether the aggregator accepts what a worker has sent. `bytes` is the size of the body."""

    accepted: bool
    bytes: int
    problem: AgentProblem | None = None
