"""Deliveries of webhooks. A step leases a webhook and sends some of its due deliveries at once.

A worker that dies has sent or has not sent: the next step sends again under the same id.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from api.domain.events import EventType
from api.domain.webhooks import SWITCH_OFF_AFTER, TEST_TYPE, pause_after, signed_headers
from api.runtime import webhook_sender
from api.runtime.webhook_sender import Outcome
from api.schemas.events.union import written
from api.services import webhooks
from api.services.lookup import locked_cluster
from api.store import events, leases
from api.store.database import UnitOfWork
from api.store.tables import EventRow, WebhookDeliveryRow, WebhookRow
from workers.context import Context
from workers.steps.shared.lease import act, under_lease

_AT_ONCE = 10
# A receiver that fails is tried with one delivery at a time. It takes a worker's time at most one
# second in four.
_SHORTEST_PAUSE_S = 5.0
_PAUSES_PER_SECOND = 3


@dataclass(frozen=True, slots=True)
class _Message:
    """A delivery to send. `body` is None when its event was removed."""

    delivery_id: str
    webhook_id: str
    url: str
    body: bytes | None


def wake_due(uow: UnitOfWork) -> None:
    """Make webhooks due that have due deliveries. The sweep then enqueues them.

    A webhook that is due later has a pause.
    """
    waiting = select(WebhookDeliveryRow.id).where(
        WebhookDeliveryRow.webhook_id == WebhookRow.id, WebhookDeliveryRow.due_at <= func.clock_timestamp()
    )
    uow.session.execute(
        update(WebhookRow)
        .where(
            WebhookRow.due_at.is_(None),
            or_(WebhookRow.lease_until.is_(None), WebhookRow.lease_until < func.clock_timestamp()),
            waiting.exists(),
        )
        .values(due_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def advance(context: Context, webhook_id: str) -> None:
    under_lease(context, WebhookRow, webhook_id, lambda token: _deliver(context, webhook_id, token))


def _deliver(context: Context, webhook_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        webhook = leases.held(uow.session, WebhookRow, webhook_id, token)
        limit = _AT_ONCE if webhook.failing_since is None else 1
        messages = _due_messages(uow.session, webhook, limit)
    outcomes = act(context, WebhookRow, webhook_id, token, partial(_send_all, context, messages)) if messages else []
    for message, outcome in zip(messages, outcomes, strict=True):
        with context.database.unit_of_work() as uow:
            _record(uow.session, message, token, outcome)
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, WebhookRow, webhook_id, token)
        leases.release(row, _pause_s(outcomes, limit))


def _pause_s(outcomes: list[Outcome], limit: int) -> float | None:
    """Return when the webhook is due again: None leaves that to the next due delivery."""
    longest_ms = max((outcome.duration_ms for outcome in outcomes if outcome.error is not None), default=None)
    if longest_ms is not None:
        return max(_SHORTEST_PAUSE_S, _PAUSES_PER_SECOND * longest_ms / 1000)
    return 0 if len(outcomes) == limit else None


def _due_messages(session: Session, webhook: WebhookRow, limit: int) -> list[_Message]:
    due = session.execute(
        select(WebhookDeliveryRow, EventRow)
        .outerjoin(EventRow, (EventRow.cluster_id == WebhookDeliveryRow.cluster_id) & (EventRow.seq == WebhookDeliveryRow.seq))
        .where(WebhookDeliveryRow.webhook_id == webhook.id, WebhookDeliveryRow.due_at <= func.clock_timestamp())
        .order_by(WebhookDeliveryRow.event_type != TEST_TYPE, WebhookDeliveryRow.due_at, WebhookDeliveryRow.id)
        .limit(limit)
    )
    return [_Message(row.id, webhook.id, webhook.url, _body(row, event)) for row, event in due]


def _body(delivery: WebhookDeliveryRow, event: EventRow | None) -> bytes | None:
    if delivery.event_type == TEST_TYPE:
        document = {
            "type": TEST_TYPE,
            "webhook_id": delivery.webhook_id,
            "time": delivery.created_at.astimezone(UTC).isoformat(),
        }
    elif event is None:
        return None
    else:
        document = written(event)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def _send_all(context: Context, messages: list[_Message]) -> list[Outcome]:
    return await asyncio.gather(*(_send(context, message) for message in messages))


async def _send(context: Context, message: _Message) -> Outcome:
    if message.body is None:
        return Outcome(None, 0, "event_removed")
    present, former = context.settings.secret_key, context.settings.old_secret_key
    secret_keys = [key.get_secret_value() for key in (present, former) if key is not None]
    headers = {
        "content-type": "application/json",
        "user-agent": "flow-nexus",
        **signed_headers(secret_keys, message.webhook_id, message.delivery_id, int(time.time()), message.body),
    }
    return await webhook_sender.send(message.url, headers, message.body, context.settings.webhook_networks)


def _record(session: Session, message: _Message, token: str, outcome: Outcome) -> None:
    """Note the result of an attempt.

    Raises:
        LeaseLostError: another worker has the webhook now.
    """
    cluster_id = session.scalar(select(WebhookDeliveryRow.cluster_id).where(WebhookDeliveryRow.id == message.delivery_id))
    if cluster_id is not None:
        # The cluster's lock comes first, as everywhere.
        locked_cluster(session, cluster_id)
    webhook = leases.held(session, WebhookRow, message.webhook_id, token)
    delivery = session.get(WebhookDeliveryRow, message.delivery_id, populate_existing=True)
    if delivery is None:
        return
    events.announce(session, webhook.id)
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    delivery.attempts += 1
    delivery.status_code, delivery.duration_ms, delivery.error = outcome.status_code, outcome.duration_ms, outcome.error
    if outcome.error is None:
        delivery.status, delivery.due_at = "delivered", None
        webhook.failing_since = None if delivery.event_type != TEST_TYPE else webhook.failing_since
        return
    is_final = delivery.event_type == TEST_TYPE or outcome.error == "event_removed" or not webhook.enabled
    pause = None if is_final else pause_after(delivery.attempts)
    if pause is None or now + pause > delivery.give_up_at:
        delivery.status, delivery.due_at = "failed", None
    else:
        delivery.due_at = now + pause
    if cluster_id is not None and outcome.error != "event_removed":
        _note_failure(session, webhook, cluster_id, now)


def _note_failure(session: Session, webhook: WebhookRow, cluster_id: str, now: datetime) -> None:
    """Switch the webhook off when its deliveries have failed for five days."""
    if webhook.failing_since is None:
        webhook.failing_since = now
    if not webhook.enabled or now - webhook.failing_since < SWITCH_OFF_AFTER:
        return
    webhook.enabled, webhook.disabled_at = False, now
    session.flush()
    webhooks.end_waiting(session, webhook.id)
    facts = {"webhook_id": webhook.id, "failing_since": webhook.failing_since.astimezone(UTC).isoformat()}
    events.emit(session, cluster_id, EventType.WEBHOOK_DISABLED, facts)
