"""Models of API keys."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from api.domain.scopes import KeyState, Scope
from api.schemas.base import Name, RequestModel, ResponseModel, Timestamp, Word
from api.store.tables import ApiKeyRow

_YEAR_S = 365 * 24 * 3600
_WEEK_S = 7 * 24 * 3600


class KeyCreate(RequestModel):
    """Give `scopes`, or give `node_id` for a data owner's key.

    Without `scopes`, that key gets all scopes of a data owner.
    """

    name: Name
    scopes: Annotated[list[Scope], Field(max_length=20)] | None = Field(
        None, description="The scopes of the key; the caller's key must have all of them."
    )
    node_id: Word | None = Field(
        None,
        description="A worker or validator. The key then belongs to its data owner and gives access only to its sandbox. Its"
        " scopes are clusters:read (status, logs), data:write and sandboxes:execute, or fewer.",
    )
    expires_in_s: int | None = Field(None, ge=1, le=10 * _YEAR_S, description="Seconds until the key expires; null: never.")

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "dashboard", "scopes": ["clusters:read"], "expires_in_s": 2592000}]}
    )

    @model_validator(mode="after")
    def _scoped(self) -> Self:
        if self.scopes is None and self.node_id is None:
            raise ValueError("give scopes, or node_id for a data owner's key")
        return self


class KeyRotate(RequestModel):
    """How to replace the secret of a key."""

    overlap_s: int = Field(0, ge=0, le=_WEEK_S, description="Seconds for which the old secret stays valid.")


class Key(ResponseModel):
    """An API key, without its secret."""

    key_id: str = Field(examples=["key_8f3m1q"])
    name: str
    prefix: str = Field(description="The first characters of the key, to recognise it.")
    scopes: list[Scope]
    node_id: str | None = Field(description="Set for a data owner's key: it gives access only to this node's sandbox.")
    status: KeyState
    created_at: Timestamp
    expires_at: Timestamp | None
    rotated_at: Timestamp | None
    old_valid_until: Timestamp | None = Field(description="The time until which the old secret stays valid.")
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None = Field(description="Accurate to the minute.")

    @classmethod
    def of(cls, row: ApiKeyRow) -> "Key":
        return cls(**_fields(row))


class KeyWithSecret(Key):
    """A key with its secret. The secret is shown only in this answer."""

    api_key: str = Field(description="Send it as `Authorization: Bearer …`; it cannot be shown again.")

    @classmethod
    def with_secret(cls, row: ApiKeyRow, secret: str) -> "KeyWithSecret":
        return cls(**_fields(row), api_key=secret)


def _fields(row: ApiKeyRow) -> dict[str, object]:
    status = "active"
    if row.revoked_at is not None:
        status = "revoked"
    elif row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        status = "expired"
    return {
        "key_id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "node_id": row.node_id,
        "status": status,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "rotated_at": row.rotated_at,
        "old_valid_until": row.old_valid_until,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
    }
