"""A worker's commitment to how it trained: a hash chain that cannot be rewritten once its root is known.

After Jia et al., "Proof-of-Learning: Definitions and Practice", IEEE S&P 2021, arXiv:2103.05633. They let a verifier who has
the data repeat steps between checkpoints. Here nobody but the worker has the data, so the chain proves less: that the pushed
update is the end of the sequence of states that was committed to, and that an update equal to its base cannot claim steps.
Whether the states came from honest training is the committee's to judge (committee.py).
"""

import hashlib
import json

from workers.agent.protocol import Commitment


def _link(previous: str, *parts: object) -> str:
    return hashlib.sha256(json.dumps([previous, *parts]).encode()).hexdigest()


class Chain:
    """Links base digest and seed, then each segment's end state (tensors.state_digest) and mean loss."""

    def __init__(self, base_digest: str, seed: str) -> None:
        self._base_digest = base_digest
        self._seed = seed
        self._segments: list[str] = []
        self._losses: list[float] = []

    def go_on(self, segments: list[str], losses: list[float]) -> None:
        """Take over what an agent had committed to before it was restarted."""
        self._segments, self._losses = [*segments], [*losses]

    def add(self, state_digest: str, loss: float) -> None:
        self._segments.append(state_digest)
        self._losses.append(loss)

    @property
    def commitment(self) -> Commitment:
        root = root_of(self._base_digest, self._seed, self._segments, self._losses)
        return Commitment(seed=self._seed, segments=self._segments, losses=self._losses, root=root)


def as_sent(commitment: Commitment, base_digest: str, state_digest: str) -> Commitment:
    """A commitment that ends with the state that the aggregator will see, where compression changed it on its way."""
    if commitment.segments and commitment.segments[-1] == state_digest:
        return commitment
    segments, losses = [*commitment.segments, state_digest], [*commitment.losses, commitment.losses[-1]]
    root = root_of(base_digest, commitment.seed, segments, losses)
    return Commitment(seed=commitment.seed, segments=segments, losses=losses, root=root)


def root_of(base_digest: str, seed: str, segments: list[str], losses: list[float]) -> str:
    root = _link("", base_digest, seed)
    for segment, loss in zip(segments, losses, strict=True):
        root = _link(root, segment, loss)
    return root


def fault_of(commitment: Commitment | None, base_digest: str, end_digest: str, base_state_digest: str) -> str | None:
    """What is wrong with a commitment to an update whose state has `end_digest`; None when nothing is.

    `base_digest` names the base's file, as the chain does; `base_state_digest` is its tensors.state_digest.
    """
    if commitment is None or not commitment.segments:
        return "the update comes without evidence of learning"
    if len(commitment.segments) != len(commitment.losses):
        return "the commitment is incomplete"
    if root_of(base_digest, commitment.seed, commitment.segments, commitment.losses) != commitment.root:
        return "the commitment's chain does not hold"
    if commitment.segments[-1] != end_digest:
        return "the update is not the model that was committed to"
    if len({base_state_digest, *commitment.segments}) != 1 + len(commitment.segments):
        return "the committed states do not change: nothing was learned"
    return None
