"""Events of webhooks."""

from typing import Literal

from api.schemas.base import Timestamp
from api.schemas.events.base import EventBase


class WebhookDisabledEvent(EventBase):
    """A webhook was switched off, as its deliveries had failed for five days."""

    type: Literal["webhook.disabled"]
    webhook_id: str
    failing_since: Timestamp
