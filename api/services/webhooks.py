"""Webhooks of a project, and the log of their deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError, NotFoundError
from api.domain.steps import Step
from api.domain.webhooks import GIVE_UP_AFTER, MOST_WEBHOOKS, TEST_TYPE
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.store import leases
from api.store.database import UnitOfWork
from api.store.tables import EventRow, ProjectRow, WebhookDeliveryRow, WebhookRow


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """A webhook to create."""

    name: str
    url: str
    event_types: Sequence[str]


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """Fields of a webhook to change. None leaves a field as it is."""

    name: str | None = None
    url: str | None = None
    event_types: Sequence[str] | None = None
    enabled: bool | None = None


def create(session: Session, project_id: str, spec: WebhookSpec) -> WebhookRow:
    # The lock orders two creations, so that the project never has too many.
    session.execute(select(ProjectRow.id).where(ProjectRow.id == project_id).with_for_update(key_share=True))
    count = session.scalar(select(func.count()).select_from(WebhookRow).where(WebhookRow.project_id == project_id)) or 0
    if count >= MOST_WEBHOOKS:
        raise ConflictError("too_many_webhooks", f"The project has {count} webhooks already; delete one first.")
    row = WebhookRow(
        id=ids.webhook_id(), project_id=project_id, name=spec.name, url=spec.url, event_types=sorted(set(spec.event_types))
    )
    session.add(row)
    session.flush()
    return row


def page(session: Session, project_id: str, page_request: PageRequest) -> ResultPage[WebhookRow]:
    return fetch_page(session, select(WebhookRow).where(WebhookRow.project_id == project_id), WebhookRow, page_request)


def get(session: Session, project_id: str, webhook_id: str, *, lock: bool = False) -> WebhookRow:
    query = select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.project_id == project_id)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFoundError("webhook", webhook_id)
    return row


def change(session: Session, project_id: str, webhook_id: str, changes: WebhookChanges) -> WebhookRow:
    """Change fields of a webhook. Another address, or switching it on, forgets earlier failures.

    Switching it off ends its waiting deliveries.
    """
    row = get(session, project_id, webhook_id, lock=True)
    if changes.enabled or changes.url not in (None, row.url):
        row.failing_since = None
    if changes.enabled:
        row.disabled_at = None
    row.name = row.name if changes.name is None else changes.name
    row.url = row.url if changes.url is None else changes.url
    row.event_types = row.event_types if changes.event_types is None else sorted(set(changes.event_types))
    row.enabled = row.enabled if changes.enabled is None else changes.enabled
    if not row.enabled:
        end_waiting(session, row.id)
    session.flush()
    return row


def end_waiting(session: Session, webhook_id: str) -> None:
    """End the waiting deliveries of a webhook that is off. They can be sent again later."""
    session.execute(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.webhook_id == webhook_id, WebhookDeliveryRow.status == "pending")
        .values(status="failed", error="disabled", due_at=None)
        .execution_options(synchronize_session=False)
    )


def delete(session: Session, project_id: str, webhook_id: str) -> None:
    session.delete(get(session, project_id, webhook_id, lock=True))


def deliveries(session: Session, project_id: str, webhook_id: str, page_request: PageRequest) -> ResultPage[WebhookDeliveryRow]:
    get(session, project_id, webhook_id)
    query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook_id)
    return fetch_page(session, query, WebhookDeliveryRow, page_request)


def delivery(session: Session, project_id: str, webhook_id: str, delivery_id: str) -> WebhookDeliveryRow:
    get(session, project_id, webhook_id)
    row = session.get(WebhookDeliveryRow, delivery_id)
    if row is None or row.webhook_id != webhook_id:
        raise NotFoundError("delivery", delivery_id, " of this webhook")
    return row


def send_test(uow: UnitOfWork, project_id: str, webhook_id: str) -> WebhookDeliveryRow:
    """Make a delivery that is tried once and does not count as a failure of the webhook."""
    webhook = _switched_on(uow.session, project_id, webhook_id)
    row = WebhookDeliveryRow(id=ids.delivery_id(), webhook_id=webhook.id, event_type=TEST_TYPE, status="pending")
    return _enqueue(uow, webhook, row)


def redeliver(uow: UnitOfWork, project_id: str, webhook_id: str, delivery_id: str) -> WebhookDeliveryRow:
    """Make a delivery due again, under the same `webhook-id`."""
    webhook = _switched_on(uow.session, project_id, webhook_id)
    row = delivery(uow.session, project_id, webhook_id, delivery_id)
    if row.seq is not None and uow.session.get(EventRow, (row.cluster_id, row.seq)) is None:
        raise ConflictError("event_removed", "The retention period of the event is over, so it cannot be sent again.")
    return _enqueue(uow, webhook, row)


def _switched_on(session: Session, project_id: str, webhook_id: str) -> WebhookRow:
    row = get(session, project_id, webhook_id, lock=True)
    if not row.enabled:
        raise ConflictError("webhook_disabled", "The webhook is off; set `enabled` to true first.")
    return row


def _enqueue(uow: UnitOfWork, webhook: WebhookRow, row: WebhookDeliveryRow) -> WebhookDeliveryRow:
    row.status, row.attempts, row.error = "pending", 0, None
    row.due_at = func.clock_timestamp()
    row.give_up_at = func.clock_timestamp() + GIVE_UP_AFTER
    uow.session.add(row)
    leases.wake(webhook)
    uow.enqueue(Step.WEBHOOKS_ADVANCE, webhook.id)
    uow.session.flush()
    uow.session.refresh(row)
    return row
