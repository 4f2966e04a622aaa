"""Models of health and readiness."""

from typing import Literal

from pydantic import Field

from api.schemas.base import ResponseModel


class Health(ResponseModel):
    status: Literal["ok"] = "ok"


class DatabaseState(ResponseModel):
    ok: bool = Field(description="the database answers and has the expected migration")
    migration: str | None = None
    expected_migration: str | None = None
    detail: str | None = None


class BrokerState(ResponseModel):
    ok: bool
    detail: str | None = None


class ProviderState(ResponseModel):
    ok: bool
    kind: str | None = Field(None, description="local or e2b")
    isolation: str | None = Field(None, description="the mechanism that isolates the sandboxes")
    warning: str | None = Field(None, description="set when the isolation is too weak")


class Readiness(ResponseModel):
    ready: bool = Field(description="requests can be served; background steps wait for a broker or a provider that is away")
    database: DatabaseState
    broker: BrokerState
    sandboxes: ProviderState
