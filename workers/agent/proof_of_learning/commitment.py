"""A worker's commitment to how it trained: a hash chain that cannot be rewritten once its root is known.

After Jia et al., "Proof-of-Learning: Definitions and Practice", IEEE S&P 2021, arXiv:2103.05633. They let a verifier who has
the data repeat steps between checkpoints. Here nobody but the worker has the data, so the chain by itself proves less: that
the pushed update is the end of the sequence of states that was committed to, and that an update equal to its base cannot
claim steps. Whether the worker can walk that sequence again is asked in an audit (auditing.py), whether it leads anywhere is
the committee's to judge (committee.py).
"""

import hashlib
import json
from dataclasses import dataclass, field

from workers.agent.protocol.training import Commitment


def batch_seed(seed: int, number: int) -> str:
    """What a round's batches are drawn from."""
    return f"{seed}/{number}"


def _link(previous: str, *parts: object) -> str:
    return hashlib.sha256(json.dumps([previous, *parts]).encode()).hexdigest()


@dataclass(slots=True)
class CommitmentChain:
    """Links base digest and seed, then of each segment: end state (tensors.state_digest), mean loss, number of steps and the
    trace of the steps (trace.py)."""

    base_digest: str
    seed: str
    _segments: list[str] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)
    _steps: list[int] = field(default_factory=list)
    _traces: list[str] = field(default_factory=list)

    def resume(self, before: Commitment) -> None:
        """Take over what an agent had committed to before it was restarted."""
        self._segments, self._losses = [*before.segments], [*before.losses]
        self._steps, self._traces = [*before.steps], [*before.traces]

    def add(self, state_digest: str, loss: float, steps: int, trace: str) -> None:
        self._segments.append(state_digest)
        self._losses.append(loss)
        self._steps.append(steps)
        self._traces.append(trace)

    @property
    def commitment(self) -> Commitment:
        found = Commitment(
            seed=self.seed, segments=self._segments, losses=self._losses, steps=self._steps, traces=self._traces, root=""
        )
        return found.model_copy(update={"root": chain_root(self.base_digest, found)})


def with_sent_state(commitment: Commitment, base_digest: str, state_digest: str) -> Commitment:
    """A commitment that ends with the state that the aggregator will see, where compression changed it on its way."""
    if commitment.segments and commitment.segments[-1] == state_digest:
        return commitment
    found = commitment.model_copy(
        update={
            "segments": [*commitment.segments, state_digest],
            "losses": [*commitment.losses, commitment.losses[-1]],
            "steps": [*commitment.steps, 0],
            "traces": [*commitment.traces, ""],
        }
    )
    return found.model_copy(update={"root": chain_root(base_digest, found)})


def chain_root(base_digest: str, commitment: Commitment) -> str:
    """ValueError when the commitment's lists are not equally long."""
    root = _link("", base_digest, commitment.seed)
    for parts in zip(commitment.segments, commitment.losses, commitment.steps, commitment.traces, strict=True):
        root = _link(root, *parts)
    return root


def commitment_fault(
    commitment: Commitment | None, base_digest: str, end_digest: str, base_state_digest: str, *, compressed: bool = False
) -> str | None:
    """What is wrong with a commitment to an update whose state has `end_digest`; None when nothing is.

    `base_digest` names the base's file, as the chain does; `base_state_digest` is its tensors.state_digest. Only where updates
    are compressed may the last segment, and no other, have no steps.
    """
    if commitment is None or not commitment.segments:
        return "the update comes without evidence of learning"
    try:
        root = chain_root(base_digest, commitment)
    except ValueError:
        return "the commitment is incomplete"
    if root != commitment.root:
        return "the commitment's chain does not hold"
    if commitment.segments[-1] != end_digest:
        return "the update is not the model that was committed to"
    if len({base_state_digest, *commitment.segments}) != 1 + len(commitment.segments):
        return "the committed states do not change: nothing was learned"
    trained = commitment.steps[:-1] if compressed and commitment.steps[-1] == 0 else commitment.steps
    if not trained or min(trained) < 1:
        return "the commitment has a segment without steps"
    return None
