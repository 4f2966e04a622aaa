"""The computations of a worker in a secure sum. They do no input or output.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017.
Every pair of workers agrees on a mask that one adds and the other subtracts. Every worker adds
another mask of its own. The workers hold shares of each other's secrets. With these they can remove
the masks of a worker that has left.
The aggregator is assumed to be honest but curious: it passes the keys on unchanged.
"""

from collections.abc import Collection, Mapping, Sequence

import torch

from workers.agent.protocol.secure_aggregation import LEAST_WORKERS, AdvertiseKeys, RevealShares, threshold_for
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation import fixed_point, masks, shamir
from workers.agent.secure_aggregation.fixed_point import FixedPointVector

_POINT_BYTES = 66


class Participant:
    """A worker in one run of the protocol. Its keys are for this run only."""

    def __init__(self, node_id: str, run: str, samples: int) -> None:
        self._node_id = node_id
        self._run = run
        self._sealing, self._masking, self._seed = masks.new_private(), masks.new_private(), masks.new_seed()
        self.keys = AdvertiseKeys(
            node_id=node_id,
            sealing=masks.public_of(self._sealing).hex(),
            masking=masks.public_of(self._masking).hex(),
            samples=samples,
        )
        self._roster: dict[str, AdvertiseKeys] = {}
        self._held: dict[str, tuple[int, int]] = {}
        self._revealed = False

    def share(self, roster: Sequence[AdvertiseKeys]) -> dict[str, str]:
        """Return encrypted shares of this worker's secrets, one for each other worker.

        Raises:
            AgentError: `not_in_the_sum`, `below_threshold`, `bad_keys`.
        """
        self._roster = {keys.node_id: keys for keys in sorted(roster, key=lambda keys: keys.node_id)}
        if self._node_id not in self._roster:
            raise AgentError("not_in_the_sum", "this worker's keys came too late")
        if self._roster[self._node_id] != self.keys or len(self._roster) != len(roster):
            raise AgentError("bad_keys", "the aggregator passes on other keys than the worker sent")
        if len(roster) < LEAST_WORKERS:
            raise AgentError("below_threshold", f"{len(roster)} workers take part; a secure sum needs {LEAST_WORKERS}")
        points = {node_id: point for point, node_id in enumerate(self._roster, start=1)}
        threshold = threshold_for(len(roster))
        seeds = shamir.split(self._seed, list(points.values()), threshold)
        keys = shamir.split(self._masking, list(points.values()), threshold)
        self._held[self._node_id] = (seeds[points[self._node_id]], keys[points[self._node_id]])
        return {
            other: self._seal(other, seeds[point], keys[point]) for other, point in points.items() if other != self._node_id
        }

    def _seal(self, other: str, seed: int, key: int) -> str:
        message = seed.to_bytes(_POINT_BYTES, "big") + key.to_bytes(_POINT_BYTES, "big")
        return masks.seal(self._sealing_key(other), message, f"{self._node_id}>{other}").hex()

    def _sealing_key(self, other: str) -> bytes:
        return _agree(self._sealing, self._roster[other].sealing, f"{self._run} seal")

    def mask(self, change: torch.Tensor, delivered: Mapping[str, str]) -> tuple[FixedPointVector, int]:
        """Return the masked change, and how many of its values were clipped.

        `delivered` maps senders to the shares that they encrypted for this worker.
        The masks are for these senders and this worker.

        Raises:
            AgentError: `bad_share`, `not_finite`, `below_threshold`.
        """
        for sender, sealed in delivered.items():
            if sender not in self._roster or sender == self._node_id:
                raise AgentError("bad_share", f"{sender} is not in the sum")
            try:
                opened = masks.unseal(self._sealing_key(sender), bytes.fromhex(sealed), f"{sender}>{self._node_id}")
            except ValueError:
                raise AgentError("bad_share", f"the share of {sender} cannot be decrypted") from None
            self._held[sender] = (int.from_bytes(opened[:_POINT_BYTES], "big"), int.from_bytes(opened[_POINT_BYTES:], "big"))
        if len(self._held) < threshold_for(len(self._roster)):
            raise AgentError("below_threshold", "too few workers have shared their secrets")
        total_samples = sum(self._roster[node_id].samples for node_id in self._held)
        try:
            numbers, clipped = fixed_point.encode(change, self.keys.samples / total_samples)
        except ValueError as error:
            raise AgentError("not_finite", str(error)) from None
        numbers += masks.stream(self._seed, len(numbers))
        for other in self._held:
            if other == self._node_id:
                continue
            shared = masks.stream(_agree(self._masking, self._roster[other].masking, f"{self._run} mask"), len(numbers))
            numbers = numbers + shared if self._node_id < other else numbers - shared
        return numbers, clipped

    def reveal(self, survivors: Collection[str]) -> RevealShares:
        """Return the shares that remove the masks from the sum of the survivors' updates.

        It reveals either the seed or the key of each worker, and only once. Both together would
        reveal the update of that worker.

        Raises:
            AgentError: `below_threshold`, `already_revealed`.
        """
        if self._revealed:
            raise AgentError("already_revealed", "this worker has revealed its shares already")
        if self._node_id not in survivors or len(set(survivors) & self._held.keys()) < threshold_for(len(self._roster)):
            raise AgentError("below_threshold", "too few updates have arrived to be unmasked")
        self._revealed = True
        seeds = {node_id: f"{held[0]:x}" for node_id, held in self._held.items() if node_id in survivors}
        keys = {node_id: f"{held[1]:x}" for node_id, held in self._held.items() if node_id not in survivors}
        return RevealShares(node_id=self._node_id, seeds=seeds, keys=keys)


def _agree(private: bytes, public: str, purpose: str) -> bytes:
    try:
        return masks.agree(private, bytes.fromhex(public), purpose)
    except ValueError:
        raise AgentError("bad_keys", "a public key is malformed") from None
