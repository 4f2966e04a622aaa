"""Models of what a round leaves as evidence: votes, audits, commitments and decisions."""

from pydantic import Field

from api.domain.decisions import DecisionAction
from api.schemas.base import Figure, ResponseModel


class RoundVote(ResponseModel):
    """The vote of one committee member on one update."""

    voter: str = Field(description="The node that voted.")
    candidate: str = Field(description="The node whose update was judged.")
    accept: bool
    score: Figure | None = Field(
        description="The accuracy with the update minus that of the base, on the voter's held-out data; null: not measured."
    )
    reason: str | None = Field(description="Why the update is not accepted.")


class RoundAudit(ResponseModel):
    """An audit: a worker was asked to repeat a segment of its round."""

    worker: str = Field(description="The node that was audited.")
    segment: int = Field(description="The segment, counted from 0.")
    step: int = Field(description="The step of the segment whose state was compared, counted from 1.")
    passed: bool
    reason: str | None = Field(description="Why the audit was not passed.")
    seconds: Figure | None = Field(description="Duration of the repetition, measured by the worker.")
    nonce: str = Field(description="The randomness that drew workers, segments and steps.")


class Commitment(ResponseModel):
    """Proof of learning: a hash chain over a worker's training, one link for each segment."""

    seed: str = Field(description="Seed of the order of the batches.")
    segments: list[str] = Field(description="Digest of the state after each segment.")
    # Not rounded: the chain covers every digit.
    losses: list[float] = Field(description="Mean training loss of each segment, in nats, with every digit.")
    steps: list[int] = Field(description="Optimizer steps of each segment; 0 where compression changed the state.")
    traces: list[str] = Field(description="For each segment, the digest of the fingerprints of its steps.")
    root: str = Field(description="Last link of the chain.")


class NodeDecision(ResponseModel):
    """What a node decided by itself, and why."""

    action: DecisionAction
    reason: str
    at: str = Field(description="The time in UTC, by the clock of the node.")
