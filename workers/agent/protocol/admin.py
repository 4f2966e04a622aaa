"""An agent's configuration and its health."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Autonomy, Message

PORT = 8000
SELF_RESTART_LEVEL = 0.3


class AgentConfig(Message):
    """Written to a file in the sandbox before the agent starts; the agent removes the file once it has read it."""

    node_id: str
    role: Literal["worker", "aggregator", "validator"]
    key: str = Field(repr=False, description="what passes at this agent are made with")
    port: int = PORT
    threads: int | None = Field(None, description="CPU threads for torch; None lets the agent decide")
    autonomy: Autonomy = Autonomy()


class AgentHealth(Message):
    status: Literal["ok"] = "ok"
    node_id: str
    role: str
    pid: int
    uptime_seconds: float
    threads: int
    cpu_cores: int
    memory_gb: float | None = Field(description="GiB that this sandbox may use; null when it cannot be read")
    rss_mb: float
    gpu: str | None = Field(description="Name of the CUDA device, null without one")
