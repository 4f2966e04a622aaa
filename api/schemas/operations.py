"""Models of health and readiness."""

from typing import Literal

from pydantic import Field

from api.domain.sandboxes import ProviderKind
from api.schemas.base import Figure, ResponseModel


class Health(ResponseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class DatabaseState(ResponseModel):
    """Whether the database can be used."""

    ok: bool = Field(description="The database answers and has the expected migration, or a later one.")
    migration: str | None = None
    expected_migration: str | None = None
    detail: str | None = None


class BrokerState(ResponseModel):
    """Whether the broker of background work answers."""

    ok: bool
    detail: str | None = None


class StepsState(ResponseModel):
    """Whether background steps are taken."""

    ok: bool = Field(description="A Celery worker has taken a step lately.")
    seconds_since_last: Figure | None = Field(None, description="null if none was taken yet, or if it is not known.")
    detail: str | None = None


class ProviderState(ResponseModel):
    """Whether the sandbox provider answers."""

    ok: bool
    kind: ProviderKind | None = None
    isolation: str | None = Field(None, description="The mechanism that isolates the sandboxes.")
    warning: str | None = Field(None, description="Set when the isolation is too weak, or the provider is down.")


class Readiness(ResponseModel):
    """Whether every part of the service works."""

    ready: bool = Field(description="Every part works. `detail` and `warning` of a part that does not say what to do.")
    database: DatabaseState
    broker: BrokerState
    steps: StepsState
    sandboxes: ProviderState
