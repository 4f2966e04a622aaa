"""The configuration of an agent, and its health."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Autonomy, Message
from workers.agent.protocol.data import LARGEST_FILE

PORT = 8000
# The autonomy level from which the watchdog restarts a dead agent.
SELF_RESTART_LEVEL = 0.3


class AgentConfig(Message):
    """How to start an agent.

    The control plane writes it to a file in the sandbox. The agent deletes the file after it has
    read it.
    """

    node_id: str
    role: Literal["worker", "aggregator", "validator"]
    key: str = Field(repr=False, description="Secret that signs the tokens of this agent's callers.")
    port: int = PORT
    threads: int | None = Field(None, description="CPU threads for torch; None lets the agent decide.")
    autonomy: Autonomy = Autonomy()
    largest_file: int = Field(LARGEST_FILE, description="Bytes of the largest data file.")


class AgentHealth(Message):
    """Proof that an agent is alive, with the resources of its sandbox."""

    status: Literal["ok"] = "ok"
    node_id: str
    role: str
    pid: int
    uptime_seconds: float
    threads: int = Field(description="CPU threads that torch uses.")
    cpu_cores: int = Field(description="Cores that the agent may run on.")
    memory_gb: float | None = Field(description="GiB that this sandbox may use; null when it cannot be read.")
    rss_mb: float = Field(description="Resident memory of the agent, MiB.")
    gpu: str | None = Field(description="Name of the CUDA device; null without one.")
