"""The messages of a synchronous round, in which the workers sum gradients in each step.

A round may need several attempts. In each `StopResult`, `stopped` says whether the attempt has
ended at the receiver.

Aggregator -> worker:

    POST /synchronous/begin
         BeginAttempt -> BeginAttemptResult         prepare an attempt at a round
    POST /synchronous/{attempt}/share
         safetensors body -> StopResult             store the worker's samples
    POST /synchronous/go
         StartSteps -> StopResult                   start the steps, because all workers are ready
    GET  /synchronous/{attempt}
         -> StopResult                              check that the worker is still in the attempt

Any agent -> any agent:

    PUT  /synchronous/{attempt}/vectors/{tag}/{sender}
         fp32 body -> StopResult                    send a part of the sum of a step

Worker -> aggregator:

    POST /synchronous/ended
         AttemptResult -> StopResult                report how the attempt ended at this worker
"""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import AgentProblem, Message, ModelSpec, Peer
from workers.agent.protocol.training import Hyperparameters, TrainReport


class BeginAttempt(Message):
    """Prepare an attempt at a round."""

    training_id: str
    round: int
    attempt: str
    model: ModelSpec
    base_digest: str
    aggregator: Peer
    peers: list[Peer] = Field(description="All workers, in their order.")
    kind: Literal["star", "mesh", "ring", "hierarchical"]
    groups: list[list[str]]
    hyperparameters: Hyperparameters
    steps: int = Field(description="Steps of each epoch.")
    share: str = Field(description="Id of the samples that the worker must have.")
    wait_s: float = Field(description="Seconds that a node waits for a vector.")


class BeginAttemptResult(Message):
    """What the worker has already, so that the aggregator sends only the rest."""

    node_id: str
    has_share: bool = Field(description="Whether the worker has its samples.")
    has_moments: bool = Field(description="Whether the worker has the optimizer state of the base.")


class StartSteps(Message):
    """Start the steps of an attempt."""

    attempt: str
    resume: bool = Field(description="Whether to continue with the optimizer state of the base.")


class AttemptResult(Message):
    """How an attempt ended at a worker: the digest of its model, or a problem."""

    attempt: str
    report: TrainReport
    digest: str | None = None
    problem: AgentProblem | None = None
