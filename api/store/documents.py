"""Typed forms of JSON columns."""

from typing import TypedDict

ConnectionDocument = TypedDict("ConnectionDocument", {"from": str, "to": str})
"""An edge of a cluster: two node ids, or a node id and `all`."""


class FormerSandbox(TypedDict):
    """An earlier sandbox of a node. The times are in ISO 8601."""

    sandbox_id: str | None
    started_at: str
    ended_at: str


class RejectedUpdatesDocument(TypedDict):
    """How often updates of a node were rejected, and the last rejection."""

    count: int
    last_training_id: str
    last_round: int
    last_reason: str
