"""Shapes of health and readiness."""

from typing import Literal

from pydantic import Field

from api.schemas.base import ResponseModel


class Health(ResponseModel):
    status: Literal["ok"] = "ok"


class DatabaseState(ResponseModel):
    ok: bool = Field(description="reached, and migrated to what this version expects")
    migration: str | None = None
    expected_migration: str | None = None
    detail: str | None = None


class BrokerState(ResponseModel):
    ok: bool
    detail: str | None = None


class ProviderState(ResponseModel):
    ok: bool
    kind: str | None = Field(None, description="local or e2b")
    isolation: str | None = Field(None, description="what keeps the sandboxes apart")
    warning: str | None = Field(None, description="set when that is weaker than it should be")


class Readiness(ResponseModel):
    ready: bool = Field(description="requests can be served; work waits for a broker or a provider that is away")
    database: DatabaseState
    broker: BrokerState
    sandboxes: ProviderState
