"""What travels for a secure sum, between the workers and the aggregator that passes it on. Bytes and numbers are in hex."""

from pydantic import Field

from workers.agent.protocol.common import Message

LEAST_WORKERS = 3


def threshold_for(workers: int) -> int:
    """How many workers of a roster must stay to the end: more than half, so that no two such groups are disjoint."""
    return workers // 2 + 1


class AdvertiseKeys(Message):
    """A worker's public keys for one run, and how many samples its update stands for."""

    node_id: str
    sealing: str = Field(description="others seal their shares for this worker with it")
    masking: str = Field(description="masks come of it")
    samples: int = Field(ge=1)


class RosterResult(Message):
    """Whose keys have come, once all have or the round's deadline is over."""

    closed: bool
    members: list[AdvertiseKeys] = Field([])


class ShareSecrets(Message):
    node_id: str
    shares: dict[str, str] = Field(description="receiver -> a share of the sender's seed and of its masking key, sealed")


class SharesResult(Message):
    closed: bool
    shares: dict[str, str] = Field({}, description="sender -> what it sealed for the asker")


class AskSurvivors(Message):
    node_id: str


class SurvivorsResult(Message):
    """Whose masked updates have come."""

    closed: bool
    node_ids: list[str] = Field([])


class RevealShares(Message):
    """A worker's shares: of the seed of each that has sent its update, of the masking key of each that has not."""

    node_id: str
    seeds: dict[str, str]
    keys: dict[str, str]


SecureSumRequest = AdvertiseKeys | ShareSecrets | AskSurvivors | RevealShares
REQUEST_OF_PHASE: dict[str, type[SecureSumRequest]] = {
    "keys": AdvertiseKeys,
    "shares": ShareSecrets,
    "survivors": AskSurvivors,
    "unmask": RevealShares,
}
