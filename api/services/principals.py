"""Who a key speaks for."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from api.services.audit import Entry
from api.settings import Settings
from api.store.tables import ApiKeyRow

PREFIX_LENGTH = 8
_USED_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for. `node_id`: the one node whose data's owner this is. `entry`: its line in the audit log."""

    project_id: str
    key_id: str
    scopes: frozenset[str]
    prefix: str
    node_id: str | None = None
    valid: bool = True
    used_recently: bool = field(default=True, compare=False)
    entry: Entry | None = field(default=None, compare=False, repr=False)


def authenticate(session: Session, settings: Settings, plaintext: str) -> Principal | None:
    """The key's principal, or None if it is unknown, expired or revoked."""
    found = recognise(session, settings, plaintext)
    return found if found is not None and found.valid else None


def recognise(session: Session, settings: Settings, plaintext: str) -> Principal | None:
    """Whose key this is, or was: `valid` says whether it still opens anything."""
    presented = digest(settings, plaintext)
    fresh = ApiKeyRow.last_used_at > func.clock_timestamp() - _USED_RESOLUTION
    same = or_(
        ApiKeyRow.digest == presented,
        and_(ApiKeyRow.old_digest == presented, ApiKeyRow.old_valid_until > func.clock_timestamp()),
    )
    found = session.execute(select(ApiKeyRow, valid(), fresh).where(same)).first()
    if found is None:
        return None
    row, opens, used_recently = found
    return Principal(
        project_id=row.project_id,
        key_id=row.id,
        scopes=frozenset(row.scopes),
        prefix=plaintext[:PREFIX_LENGTH],
        node_id=row.node_id,
        valid=opens,
        used_recently=bool(used_recently),
    )


def opens(session: Session, key_id: str) -> bool:
    """Whether a key that was let in would be let in again."""
    return bool(session.scalar(select(valid()).where(ApiKeyRow.id == key_id)))


def note_use(session: Session, key_ids: Iterable[str]) -> None:
    """Write down that these keys were used, to the minute. A key that somebody else writes just now is passed over."""
    stale = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < func.clock_timestamp() - _USED_RESOLUTION)
    free = select(ApiKeyRow.id).where(ApiKeyRow.id.in_(list(key_ids)), stale).with_for_update(skip_locked=True)
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.id.in_(free))
        .values(last_used_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def valid() -> ColumnElement[bool]:
    """The key opens something: not revoked, not expired."""
    return and_(
        ApiKeyRow.revoked_at.is_(None), or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.clock_timestamp())
    )


def digest(settings: Settings, plaintext: str) -> bytes:
    """HMAC with the deployment's secret: fast enough for every request, useless to a thief of the database alone.
    A slow hash would add nothing, as the keys are 256 random bits."""
    pepper = b"api-key:" + settings.secret_key.get_secret_value().encode()
    return hmac.digest(pepper, plaintext.encode(), hashlib.sha256)
