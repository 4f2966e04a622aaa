"""Scores and votes of a committee, audits, and the election of an aggregator."""

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer
from workers.agent.protocol.data import DataFormat


class ScoreUpdates(Message):
    """Evaluate updates on the worker's own held-out samples."""

    training_id: str
    model: ModelSpec
    base_digest: str
    candidates: dict[str, str] = Field(description="Node id -> digest of its update.")
    source: Peer = Field(description="Agent that has the base and the updates.")
    dataset: str
    data_format: DataFormat = DataFormat()
    limit: int = Field(128, description="Held-out samples to use, at most.")


class UpdateEffect(Message):
    """The difference between an update and the round's base, on a voter's held-out samples."""

    change: float = Field(description="Mean total variation distance of the probabilities, 0..1.")
    gain: float = Field(description="Mean loss of the base minus that of the candidate, in nats.")
    error: float = Field(description="Standard error of the gain over the samples.")


class ScoreResult(Message):
    """What a voter measured on its held-out samples. Accuracies are 0..1."""

    node_id: str
    samples: int
    base: float = Field(description="Accuracy of the round's base model.")
    candidates: dict[str, float] = Field(description="Node id -> accuracy of its update.")
    effects: dict[str, UpdateEffect] = Field({}, description="Node id -> effect of its update.")


class Vote(Message):
    """The vote of one committee member on one update.

    `score` is the accuracy of the update minus that of the base, on the voter's held-out data.
    """

    voter: str
    candidate: str
    accept: bool
    score: float | None = None
    reason: str | None = Field(None, description="Why the update is not accepted, in words.")


class RequestVote(Message):
    """Vote on whether `candidate` becomes the aggregator in `term`.

    `digest` names the last committed model; it is None before the first round.
    """

    training_id: str
    term: int = Field(ge=1)
    candidate: str
    digest: str | None


class VoteResult(Message):
    """Whether the worker votes for the candidate."""

    node_id: str
    term: int = Field(description="The newest term that this worker has voted in.")
    granted: bool
    holds: bool = Field(description="Whether the worker has the last committed model.")


class AuditSegment(Message):
    """Repeat a segment of the worker's round and record the state after `step` steps.

    `nonce` is the randomness that drew the segment and the step.
    """

    training_id: str
    round: int
    segment: int = Field(ge=0)
    steps: int = Field(ge=1, description="Steps of the segment, as in the commitment.")
    step: int = Field(ge=1)
    nonce: str


class AuditResult(Message):
    """The worker has repeated the segment.

    The aggregator may now fetch the states `start`, `middle` and `end` as evidence.
    """

    node_id: str
    nonce: str
    fingerprints: list[str] = Field(description="One for each step of the segment, in order.")
    loss: float = Field(description="Mean training loss of the batch in that step, in nats; its fingerprint covers it.")
    seconds: float = Field(description="Duration of the replay.")


class AuditRecord(Message):
    """An audit and its outcome.

    `nonce` is fresh randomness. Together with all commitments' roots it drew workers, segments and
    steps.
    """

    worker: str
    segment: int
    step: int
    passed: bool
    reason: str | None = None
    seconds: float | None = Field(None, description="Duration of the replay, measured by the worker.")
    nonce: str
