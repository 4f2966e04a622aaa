"""Models of health and readiness."""

from typing import Literal

from pydantic import Field

from api.schemas.base import Figure, ResponseModel


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


class StepsState(ResponseModel):
    ok: bool = Field(description="A Celery worker has taken a step lately.")
    seconds_since_last: Figure | None = Field(None, description="null if none was taken yet, or if it is not known.")
    detail: str | None = None


class ProviderState(ResponseModel):
    ok: bool
    kind: str | None = Field(None, description="Local or e2b.")
    isolation: str | None = Field(None, description="The mechanism that isolates the sandboxes.")
    warning: str | None = Field(None, description="Set when the isolation is too weak, or the provider is down.")


class Readiness(ResponseModel):
    ready: bool = Field(description="Every part works. `detail` and `warning` of a part that does not say what to do.")
    database: DatabaseState
    broker: BrokerState
    steps: StepsState
    sandboxes: ProviderState
