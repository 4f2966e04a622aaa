"""When a Celery worker last took a step, by the database's clock."""

from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.store.tables import HeartbeatRow

_STEPS: Final = "steps"


def note(session: Session) -> None:
    """Record that a step is being taken now."""
    values = insert(HeartbeatRow).values(name=_STEPS, at=func.clock_timestamp())
    session.execute(values.on_conflict_do_update(index_elements=[HeartbeatRow.name], set_={"at": func.clock_timestamp()}))


def age_s(session: Session) -> float | None:
    """Return the seconds since the last step. None if none was taken yet."""
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    at = session.scalar(select(HeartbeatRow.at).where(HeartbeatRow.name == _STEPS))
    return None if at is None else max(0.0, (now - at).total_seconds())
