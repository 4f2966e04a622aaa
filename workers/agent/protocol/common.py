"""What several groups of messages share."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Autonomy(Message):
    """What a node may decide by itself; `level` 0..1, in force only when `enabled`."""

    enabled: bool = False
    level: float = 0.0

    def allows(self, least: float) -> bool:
        """Whether a node may do what begins at the level `least`."""
        return self.enabled and self.level >= least


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Decision(Message):
    """One autonomous act of a node, with its reason in words (no data). `at` tells it from another of the same kind."""

    action: str
    reason: str
    at: str = Field(default_factory=_now)


class Peer(Message):
    """Another agent, as it is reached from inside a sandbox. `token` is the reader's own pass at that agent."""

    node_id: str
    url: str
    headers: dict[str, str] = Field({}, repr=False)
    uds: str | None = None
    token: str | None = Field(None, repr=False)


class AgentProblem(Message):
    code: str
    message: str


class ModelSpec(Message):
    """Which network: the same spec and seed give the same initial weights on every agent."""

    architecture: str
    model: str
    labels: list[str] = Field(description="class names in output order, sorted")
    max_length: int = Field(128, description="tokens; longer texts are cut")
    seed: int = 0
    lora_rank: int = Field(0, ge=0, description="rank of the adapters that alone are trained; 0 trains the weights themselves")


class LinkUse(Message):
    """What went from one agent to another in a round: bytes of bodies, seconds from a body's first byte to its last."""

    source: str
    target: str
    bytes: int
    seconds: float


class StopResult(Message):
    stopped: bool


class UploadResult(Message):
    accepted: bool
    bytes: int
    problem: AgentProblem | None = None
