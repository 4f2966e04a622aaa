"""The log of events, and the Postgres notification that wakes its readers."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import BigInteger, Text, cast, func, insert, literal, or_, select, update
from sqlalchemy.orm import Session

from api.domain.events import EventType
from api.domain.webhooks import GIVE_UP_AFTER
from api.store.tables import ClusterRow, EventRow, WebhookDeliveryRow, WebhookRow

CHANNEL = "flow_nexus"
KEY_MARK = "key_"
CHANGE_MARK = "changed "
"""A notification that begins with `KEY_MARK` is a key's id.

Triggers send notifications with `CHANGE_MARK`. After it come the ids that a changed row concerns,
separated by spaces. Every other notification is a cluster's id.
"""


def emit(
    session: Session, cluster_id: str, event_type: EventType, data: Mapping[str, Any], *, training_id: str | None = None
) -> None:
    """Append an event and notify the readers of the cluster when the transaction commits.

    The cluster's row lock orders the writers. So no reader sees a number before a lower one.
    """
    seq = session.scalar(
        update(ClusterRow)
        .where(ClusterRow.id == cluster_id)
        .values(event_seq=ClusterRow.event_seq + 1)
        .returning(ClusterRow.event_seq)
        .execution_options(synchronize_session=False)
    )
    session.add(EventRow(cluster_id=cluster_id, seq=seq, training_id=training_id, type=event_type.value, data=dict(data)))
    _deliver(session, cluster_id, seq, event_type)
    session.execute(select(func.pg_notify(CHANNEL, cluster_id)))


def _deliver(session: Session, cluster_id: str, seq: int | None, event_type: EventType) -> None:
    """Create a delivery for each webhook of the cluster's project that wants the event.

    The lock on the webhook lets no one delete it before this transaction ends.
    """
    wanted = (
        select(
            literal("msg_").concat(func.replace(cast(func.gen_random_uuid(), Text), "-", "")),
            WebhookRow.id,
            literal(cluster_id),
            literal(seq, BigInteger),
            literal(event_type.value),
            literal("pending"),
            func.clock_timestamp(),
            func.clock_timestamp() + GIVE_UP_AFTER,
        )
        .join(ClusterRow, ClusterRow.project_id == WebhookRow.project_id)
        .where(
            ClusterRow.id == cluster_id,
            WebhookRow.enabled,
            or_(
                WebhookRow.event_types.contains([event_type.value]),
                WebhookRow.event_types.contains([f"{event_type.partition('.')[0]}.*"]),
            ),
        )
        .with_for_update(read=True, key_share=True, of=WebhookRow)
    )
    columns = ("id", "webhook_id", "cluster_id", "seq", "event_type", "status", "due_at", "give_up_at")
    session.execute(insert(WebhookDeliveryRow).from_select(columns, wanted, include_defaults=False))


def announce(session: Session, row_id: str) -> None:
    """Tell every API process, when the transaction commits, that a key or a webhook has changed."""
    session.execute(select(func.pg_notify(CHANNEL, row_id)))


def read(
    session: Session,
    cluster_id: str,
    after: int,
    *,
    training_id: str | None = None,
    types: Collection[str] = (),
    limit: int = 500,
) -> list[EventRow]:
    """Return at most `limit` events with a number above `after`, the oldest first.

    With `types`, only events of these types.
    """
    query = select(EventRow).where(EventRow.cluster_id == cluster_id, EventRow.seq > after).order_by(EventRow.seq).limit(limit)
    if training_id:
        query = query.where(EventRow.training_id == training_id)
    if types:
        query = query.where(EventRow.type.in_(types))
    return list(session.scalars(query))
