"""Scores, votes, audits and ballots."""

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer


class ScoreUpdates(Message):
    """Judge updates on your own held-out samples. `candidates` maps node ids to the digests of their updates."""

    training_id: str
    model: ModelSpec
    base_digest: str
    candidates: dict[str, str]
    source: Peer
    dataset: str
    limit: int = Field(128, description="held-out samples to look at, at most")


class UpdateEffect(Message):
    """What an update changed on a voter's held-out samples, against the round's base."""

    change: float = Field(description="mean total variation between the two models' probabilities, 0..1")
    gain: float = Field(description="mean loss (nats) of the base less that of the candidate")
    error: float = Field(description="standard error of the gain over the samples")


class ScoreResult(Message):
    node_id: str
    samples: int
    base: float = Field(description="accuracy of the round's base model")
    candidates: dict[str, float] = Field(description="accuracy of each candidate")
    effects: dict[str, UpdateEffect] = Field({}, description="what each candidate changed")


class Vote(Message):
    """One committee member's finding on one update; `score` is its accuracy less the base model's, on the voter's held-out
    data."""

    voter: str
    candidate: str
    accept: bool
    score: float | None = None
    reason: str | None = Field(None, description="why not, in words")


class RequestVote(Message):
    """Shall `candidate` be the aggregator in `term`? `digest` is the last committed model; None before the first round."""

    training_id: str
    term: int = Field(ge=1)
    candidate: str
    digest: str | None


class VoteResult(Message):
    node_id: str
    term: int = Field(description="the newest term that this worker has voted in")
    granted: bool
    holds: bool = Field(description="whether it has the last committed model")


class AuditSegment(Message):
    """Do a segment of your round again, and keep what it was like after `step` of its steps."""

    training_id: str
    round: int
    segment: int = Field(ge=0)
    steps: int = Field(ge=1, description="steps of the segment, as committed to")
    step: int = Field(ge=1)
    nonce: str


class AuditResult(Message):
    """A worker's answer: its evidence (the states `start`, `middle` and `end`) may be fetched now."""

    node_id: str
    nonce: str
    fingerprints: list[str] = Field(description="of each step of the segment, in order")
    loss: float = Field(description="the batch's mean training loss in the step asked about, which its fingerprint covers")
    seconds: float


class AuditRecord(Message):
    """An audit and what came of it. `nonce` is the fresh randomness that, with all roots, drew workers, segments and steps."""

    worker: str
    segment: int
    step: int
    passed: bool
    reason: str | None = None
    seconds: float | None = Field(None, description="of the replay, as the worker measured it")
    nonce: str
