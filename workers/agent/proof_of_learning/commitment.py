"""A worker's commitment to how it trained: a hash chain, fixed once its root is known.

After Jia et al., "Proof-of-Learning: Definitions and Practice", IEEE S&P 2021, arXiv:2103.05633.
There, a verifier with the data repeats steps between checkpoints. Here only the worker has the
data, so the chain proves less. It proves that the pushed update is the last of the committed
states. It also proves that an update equal to its base cannot claim steps. An audit asks whether
the worker can repeat the steps (auditing.py). The committee judges whether the steps improve the
model (committee.py).
"""

import hashlib
import json
from dataclasses import dataclass, field

from workers.agent.protocol.training import Commitment


def batch_seed(seed: int, number: int) -> str:
    """Return the seed text of a round's batches."""
    return f"{seed}/{number}"


def _link(previous: str, *parts: object) -> str:
    return hashlib.sha256(json.dumps([previous, *parts]).encode()).hexdigest()


@dataclass(slots=True)
class CommitmentChain:
    """The hash chain of one round.

    It links the base digest and the seed. Then it links each segment: the digest of its last state
    (tensors.state_digest), its mean loss, its number of steps and its trace (trace.py).
    """

    base_digest: str
    seed: str
    _segments: list[str] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)
    _steps: list[int] = field(default_factory=list)
    _traces: list[str] = field(default_factory=list)

    def resume(self, before: Commitment) -> None:
        """Continue a chain that was begun before the agent restarted."""
        self._segments, self._losses = [*before.segments], [*before.losses]
        self._steps, self._traces = [*before.steps], [*before.traces]

    def add(self, state_digest: str, loss: float, steps: int, trace: str) -> None:
        self._segments.append(state_digest)
        self._losses.append(loss)
        self._steps.append(steps)
        self._traces.append(trace)

    @property
    def commitment(self) -> Commitment:
        commitment = Commitment(
            seed=self.seed, segments=self._segments, losses=self._losses, steps=self._steps, traces=self._traces, root=""
        )
        return commitment.model_copy(update={"root": chain_root(self.base_digest, commitment)})


def with_sent_state(commitment: Commitment, base_digest: str, state_digest: str) -> Commitment:
    """Return a commitment that ends with the state that the aggregator will unpack.

    Compression changes the last state, so it adds a segment without steps.
    """
    if commitment.segments and commitment.segments[-1] == state_digest:
        return commitment
    extended = commitment.model_copy(
        update={
            "segments": [*commitment.segments, state_digest],
            "losses": [*commitment.losses, commitment.losses[-1]],
            "steps": [*commitment.steps, 0],
            "traces": [*commitment.traces, ""],
        }
    )
    return extended.model_copy(update={"root": chain_root(base_digest, extended)})


def chain_root(base_digest: str, commitment: Commitment) -> str:
    """Return the last link of the chain.

    Raises:
        ValueError: when the lists of the commitment have different lengths.
    """
    root = _link("", base_digest, commitment.seed)
    for parts in zip(commitment.segments, commitment.losses, commitment.steps, commitment.traces, strict=True):
        root = _link(root, *parts)
    return root


def commitment_fault(
    commitment: Commitment | None, base_digest: str, end_digest: str, base_state_digest: str, *, compressed: bool = False
) -> str | None:
    """Return what is wrong with a commitment, or None.

    `base_digest` is the digest of the base's file, as in the chain. `base_state_digest` is its
    tensors.state_digest. `end_digest` is the state digest of the update. Only with compression, the
    last segment may have no steps.
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
