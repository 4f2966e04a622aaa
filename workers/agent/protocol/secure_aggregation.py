"""The messages of a secure sum: between the workers, and passed on by the aggregator.

All go to POST /trainings/{t}/rounds/{n}/secure/{phase}?wait=10, from worker to aggregator:

    keys        AdvertiseKeys -> RosterResult
    shares      ShareSecrets -> SharesResult
    survivors   AskSurvivors -> SurvivorsResult
    unmask      RevealShares -> SurvivorsResult

The masked update itself goes to .../updates/{node} between `shares` and `survivors`.
An answer with `closed=False` means: the phase is still open, ask again.
Bytes and large numbers are hexadecimal strings.
"""

from pydantic import Field

from workers.agent.protocol.common import Message

LEAST_WORKERS = 3


def threshold_for(workers: int) -> int:
    """Return how many of the roster's workers must stay until the end.

    It is more than half. So two groups that reach the threshold always share a worker.
    """
    return workers // 2 + 1


class AdvertiseKeys(Message):
    """Announce a worker's public keys for one run, and the number of its samples."""

    node_id: str
    sealing: str = Field(description="Public key with which others encrypt shares for this worker.")
    masking: str = Field(description="Public key from which each pair of workers derives its mask.")
    samples: int = Field(ge=1)


class PhaseResult(Message):
    """An answer that is complete once its phase is closed."""

    closed: bool


class RosterResult(PhaseResult):
    """The keys of all workers in the sum.

    The phase closes when all keys have come, or at the round's deadline.
    """

    members: list[AdvertiseKeys] = Field([])


class ShareSecrets(Message):
    """Send the other workers their shares of this worker's secrets."""

    node_id: str
    shares: dict[str, str] = Field(description="Receiver -> encrypted share of the sender's seed and of its masking key.")


class SharesResult(PhaseResult):
    """The shares that the others have sent to this worker."""

    shares: dict[str, str] = Field({}, description="Sender -> share that it encrypted for this worker.")


class AskSurvivors(Message):
    """Ask whose masked updates have arrived."""

    node_id: str


class SurvivorsResult(PhaseResult):
    """The workers whose masked updates have arrived."""

    node_ids: list[str] = Field([])


class RevealShares(Message):
    """Reveal the shares that remove the masks from the sum."""

    node_id: str
    seeds: dict[str, str] = Field(description="Worker that sent its update -> share of its seed.")
    keys: dict[str, str] = Field(description="Worker that did not -> share of its masking key.")


SecureSumRequest = AdvertiseKeys | ShareSecrets | AskSurvivors | RevealShares
REQUEST_OF_PHASE: dict[str, type[SecureSumRequest]] = {
    "keys": AdvertiseKeys,
    "shares": ShareSecrets,
    "survivors": AskSurvivors,
    "unmask": RevealShares,
}
