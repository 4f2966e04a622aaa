"""What the nodes of a synchronous round say to one another, beside the vectors that they sum.

POST /synchronous/begin                Begin -> Begun      (aggregator -> worker: an attempt at a round)
POST /synchronous/{attempt}/share      safetensors body -> Stopped           (aggregator -> worker: its samples)
GET  /synchronous/{attempt}                  -> Stopped    (aggregator -> worker: is it still in the attempt)
POST /synchronous/go                   Go    -> Stopped    (aggregator -> worker: all are ready)
PUT  /synchronous/{attempt}/vectors/{tag}/{sender}   fp32 body -> Stopped    (any -> any: a part of a step's sum)
POST /synchronous/ended                Ended -> Stopped    (worker -> aggregator: how the attempt ended there)
"""

from typing import Literal

from workers.agent.protocol.common import AgentProblem, Message, ModelSpec, Peer
from workers.agent.protocol.training import Hyperparameters, TrainReport


class BeginAttempt(Message):
    """`steps` of each epoch; `share` names the samples that the worker is to have, `peers` are all in their order."""

    training_id: str
    round: int
    attempt: str
    model: ModelSpec
    base_digest: str
    aggregator: Peer
    peers: list[Peer]
    kind: Literal["star", "mesh", "ring", "hierarchical"]
    groups: list[list[str]]
    hyperparameters: Hyperparameters
    steps: int
    share: str
    wait_s: float


class BeginAttemptResult(Message):
    """`has_moments`: the optimizer's state that goes with the base is still here."""

    node_id: str
    has_share: bool
    has_moments: bool


class StartSteps(Message):
    attempt: str
    resume: bool


class AttemptResult(Message):
    """`digest` of the model that the worker ended with, or its problem."""

    attempt: str
    report: TrainReport
    digest: str | None = None
    problem: AgentProblem | None = None
