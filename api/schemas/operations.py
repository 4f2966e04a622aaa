"""Models of health and readiness."""

from typing import Literal

from pydantic import Field

from api.schemas.base import ResponseModel


class Health(ResponseModel):
    status: Literal["ok"] = "ok"


class DatabaseState(ResponseModel):
    ok: bool = Field(description="The database answers and has the expected migration.")
    migration: str | None = None
    expected_migration: str | None = None
    detail: str | None = None


class BrokerState(ResponseModel):
    ok: bool
    detail: str | None = None


class ProviderState(ResponseModel):
    ok: bool
    kind: str | None = Field(None, description="Local or e2b.")
    isolation: str | None = Field(None, description="The mechanism that isolates the sandboxes.")
    warning: str | None = Field(None, description="Set when the isolation is too weak.")


class Readiness(ResponseModel):
    ready: bool = Field(description="Requests can be served; background steps wait for a broker or a provider that is away.")
    database: DatabaseState
    broker: BrokerState
    sandboxes: ProviderState
