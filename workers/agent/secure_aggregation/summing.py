"""The computations of the aggregator in a secure sum. They do no input or output.

The aggregator adds masked updates and removes the masks from the sum.
"""

from collections.abc import Iterable, Sequence

import torch

from workers.agent.protocol.secure_aggregation import AdvertiseKeys, RevealShares, threshold_for
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation import fixed_point, masks, shamir
from workers.agent.secure_aggregation.fixed_point import FixedPointVector


class MaskedSum:
    """The sum of masked updates. It needs the memory of one model for any number of updates.

    `sharers` are the workers whose masks are in the updates.
    """

    def __init__(self, run: str, roster: Sequence[AdvertiseKeys], sharers: Iterable[str]) -> None:
        self._run = run
        self._roster = {keys.node_id: keys for keys in sorted(roster, key=lambda keys: keys.node_id)}
        self._points = {node_id: point for point, node_id in enumerate(self._roster, start=1)}
        self._sharers = set(sharers)
        self._threshold = threshold_for(len(self._roster))
        self._total: FixedPointVector | None = None
        self.added: set[str] = set()

    def add(self, node_id: str, masked: FixedPointVector) -> None:
        self._total = masked.copy() if self._total is None else self._total + masked
        self.added.add(node_id)

    def mean_change(self, revealed: Sequence[RevealShares]) -> torch.Tensor:
        """Return the mean change of the model over the added updates: fp64, flat.

        The mean is weighted by samples.

        Raises:
            AgentError: `below_threshold` with too few shares, `bad_shares`.
        """
        if len(revealed) < self._threshold or self._total is None:
            message = (
                f"{len(revealed)} workers have revealed their shares; {self._threshold} are needed, and nothing is unmasked"
            )
            raise AgentError("below_threshold", message)
        total = self._total
        for node_id in sorted(self.added):
            seed = self._join({shares.node_id: shares.seeds.get(node_id) for shares in revealed})
            total = total - masks.stream(seed, len(total))
        for departed in sorted(self._sharers - self.added):
            private = self._join({shares.node_id: shares.keys.get(departed) for shares in revealed})
            if masks.public_of(private).hex() != self._roster[departed].masking:
                raise AgentError("bad_shares", f"the shares of {departed} do not fit together")
            for node_id in sorted(self.added):
                key = masks.agree(private, bytes.fromhex(self._roster[node_id].masking), f"{self._run} mask")
                shared = masks.stream(key, len(total))
                total = total - shared if node_id < departed else total + shared
        expected_samples = sum(self._roster[node_id].samples for node_id in self._sharers)
        added_samples = sum(self._roster[node_id].samples for node_id in self.added)
        return fixed_point.decode(total) * (expected_samples / added_samples)

    def _join(self, shares_hex: dict[str, str | None]) -> bytes:
        shares = {self._points[node_id]: int(share, 16) for node_id, share in shares_hex.items() if share is not None}
        if len(shares) < self._threshold:
            raise AgentError("below_threshold", "too few shares of a secret have come; nothing is unmasked")
        try:
            return shamir.join(dict(list(shares.items())[: self._threshold]))
        except ValueError as error:
            raise AgentError("bad_shares", str(error)) from None
