"""The aggregator's part in a secure sum: it adds masked updates up and takes the masks out of the sum. No input and output."""

from collections.abc import Iterable, Sequence

import torch

from workers.agent.protocol.secure_aggregation import AdvertiseKeys, RevealShares, threshold_for
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation import fixed_point, masks, shamir
from workers.agent.secure_aggregation.fixed_point import FixedPointVector


class MaskedSum:
    """Memory for one model, however many updates come. `sharers` are those whose masks are in the updates."""

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

    def change(self, told: Sequence[RevealShares]) -> torch.Tensor:
        """The mean change of the model over those whose updates were added, weighted by samples; flat, fp64. AgentError
        `below_threshold` with fewer than the threshold's shares, `bad_shares`."""
        if len(told) < self._threshold or self._total is None:
            message = f"{len(told)} workers have told their shares; {self._threshold} are needed, and nothing is unmasked"
            raise AgentError("below_threshold", message)
        total = self._total
        for node_id in sorted(self.added):
            seed = self._joined({one.node_id: one.seeds.get(node_id) for one in told})
            total = total - masks.stream(seed, len(total))
        for gone in sorted(self._sharers - self.added):
            private = self._joined({one.node_id: one.keys.get(gone) for one in told})
            if masks.public_of(private).hex() != self._roster[gone].masking:
                raise AgentError("bad_shares", f"the shares of {gone} do not fit together")
            for node_id in sorted(self.added):
                key = masks.agreed(private, bytes.fromhex(self._roster[node_id].masking), f"{self._run} mask")
                shared = masks.stream(key, len(total))
                total = total - shared if node_id < gone else total + shared
        everybody = sum(self._roster[node_id].samples for node_id in self._sharers)
        own = sum(self._roster[node_id].samples for node_id in self.added)
        return fixed_point.decode(total) * (everybody / own)

    def _joined(self, told: dict[str, str | None]) -> bytes:
        shares = {self._points[node_id]: int(share, 16) for node_id, share in told.items() if share is not None}
        if len(shares) < self._threshold:
            raise AgentError("below_threshold", "too few shares of a secret have come; nothing is unmasked")
        try:
            return shamir.join(dict(list(shares.items())[: self._threshold]))
        except ValueError as error:
            raise AgentError("bad_shares", str(error)) from None
