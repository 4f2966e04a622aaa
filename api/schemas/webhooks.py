"""Models of webhooks."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from api.domain.events import matching
from api.domain.webhooks import LONGEST_URL, DeliveryState
from api.domain.words import Words
from api.schemas.base import Figure, Int64, Name, RequestModel, ResponseModel, Timestamp
from api.services.webhooks import WebhookChanges
from api.store.tables import WebhookDeliveryRow, WebhookRow

DeliveryError = Annotated[
    Literal["status", "timeout", "refused", "tls", "connection", "disabled", "event_removed"],
    Words("DeliveryError", "Why the last attempt failed. `status`: the receiver did not answer with 2xx."),
]


def _known(name: str) -> str:
    if not matching(name):
        raise ValueError("must be an event type, or a group such as round.*")
    return name


EventTypeName = Annotated[str, Field(max_length=100), AfterValidator(_known)]
EventTypes = Annotated[list[EventTypeName], Field(min_length=1, max_length=100)]
Url = Annotated[str, Field(min_length=1, max_length=LONGEST_URL)]


class WebhookCreate(RequestModel):
    """A webhook to create."""

    name: Name
    url: Url = Field(description="https, with a public address. The operator can list other networks.")
    event_types: EventTypes = Field(description="Types of events, or groups such as `round.*`.")

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "chat", "url": "https://example.com/hook", "event_types": ["training.*"]}]}
    )


class WebhookUpdate(RequestModel):
    """The fields to change."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None
    enabled: bool | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    def changes(self) -> WebhookChanges:
        return WebhookChanges(self.name, self.url, self.event_types, self.enabled)


class Webhook(ResponseModel):
    """An address that gets the events of the project."""

    webhook_id: str = Field(examples=["hook_8f3m1q"])
    name: str
    url: str
    event_types: list[str]
    enabled: bool
    failing_since: Timestamp | None
    disabled_at: Timestamp | None = Field(description="When the service switched it off, after five days of failures.")
    created_at: Timestamp

    secret: str | None = Field(description="It verifies messages. Only `create_webhook` shows it.")

    @classmethod
    def of(cls, row: WebhookRow, secret: str | None = None) -> "Webhook":
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in ("webhook_id", "secret")}
        return cls(webhook_id=row.id, secret=secret, **fields)


class WebhookDelivery(ResponseModel):
    """One event for one webhook, with the result of its last attempt."""

    delivery_id: str = Field(description="The header `webhook-id` has it.")
    cluster_id: str | None
    event_id: Int64 | None
    event_type: str
    status: DeliveryState
    attempts: int
    due_at: Timestamp | None
    status_code: int | None
    duration_ms: Figure | None
    error: DeliveryError | None
    created_at: Timestamp

    @classmethod
    def of(cls, row: WebhookDeliveryRow) -> "WebhookDelivery":
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in ("delivery_id", "event_id")}
        return cls(delivery_id=row.id, event_id=row.seq, **fields)
