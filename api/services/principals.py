"""Find the caller that a key belongs to."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import SecretStr
from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from api.services.audit import AuditLine
from api.settings import Settings
from api.store.tables import ApiKeyRow

PREFIX_LENGTH = 8
_USED_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    `node_id` is set for a data owner: the one node with their data. `audit_record` is the line of
    the request in the audit log. `valid_for_s` are the seconds until the secret ends by itself,
    None if it does not.
    """

    project_id: str
    key_id: str
    scopes: frozenset[str]
    prefix: str
    node_id: str | None = None
    valid: bool = True
    valid_for_s: float | None = field(default=None, compare=False)
    used_recently: bool = field(default=True, compare=False)
    audit_record: AuditLine | None = field(default=None, compare=False, repr=False)


def find_principal(session: Session, key_digest: bytes, prefix: str, former_digest: bytes | None = None) -> Principal | None:
    """Return the principal of the key with this digest, also of an expired or revoked one.

    `valid` tells them apart. `prefix` is the start of the secret. A key that is known only by its
    digest with the former secret key is stored anew.
    """
    fresh = ApiKeyRow.last_used_at > func.clock_timestamp() - _USED_RESOLUTION
    has_digest = or_(
        ApiKeyRow.digest == key_digest,
        and_(ApiKeyRow.old_digest == key_digest, ApiKeyRow.old_valid_until > func.clock_timestamp()),
    )
    own_end = case((ApiKeyRow.old_digest == key_digest, ApiKeyRow.old_valid_until), else_=None)
    seconds = func.extract("epoch", func.least(ApiKeyRow.expires_at, own_end) - func.clock_timestamp())
    match = session.execute(select(ApiKeyRow, key_is_valid(), fresh, seconds).where(has_digest)).first()
    if match is None:
        is_adopted = former_digest is not None and _adopt(session, former_digest, key_digest)
        return find_principal(session, key_digest, prefix) if is_adopted else None
    row, is_valid, used_recently, valid_for_s = match
    return Principal(
        project_id=row.project_id,
        key_id=row.id,
        scopes=frozenset(row.scopes),
        prefix=prefix,
        node_id=row.node_id,
        valid=is_valid,
        valid_for_s=None if valid_for_s is None else float(valid_for_s),
        used_recently=bool(used_recently),
    )


def is_key_valid(session: Session, key_id: str) -> bool:
    """Return whether the key is still valid, neither revoked nor expired."""
    return bool(session.scalar(select(key_is_valid()).where(ApiKeyRow.id == key_id)))


def note_use(session: Session, key_ids: Iterable[str]) -> None:
    """Record that these keys were used, to the minute.

    A key that another transaction locks is skipped.
    """
    stale = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < func.clock_timestamp() - _USED_RESOLUTION)
    free = select(ApiKeyRow.id).where(ApiKeyRow.id.in_(list(key_ids)), stale).with_for_update(skip_locked=True)
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.id.in_(free))
        .values(last_used_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def key_is_valid() -> ColumnElement[bool]:
    """Return the SQL condition of a valid key: not revoked and not expired."""
    return and_(
        ApiKeyRow.revoked_at.is_(None), or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.clock_timestamp())
    )


def digest(settings: Settings, plaintext: str) -> bytes:
    """Return the HMAC of a key with the deployment's secret.

    It is fast enough for every request. A stolen database alone is useless without the secret.
    A slow hash would add nothing, because a key has 256 random bits.
    """
    return _digest(settings.secret_key, plaintext)


def former_digest(settings: Settings, plaintext: str) -> bytes | None:
    """Return the HMAC with the secret key before its rotation. None if there is no such key."""
    return None if settings.old_secret_key is None else _digest(settings.old_secret_key, plaintext)


def _digest(secret_key: SecretStr, plaintext: str) -> bytes:
    pepper = b"api-key:" + secret_key.get_secret_value().encode()
    return hmac.digest(pepper, plaintext.encode(), hashlib.sha256)


def _adopt(session: Session, former: bytes, current: bytes) -> bool:
    """Replace a digest of the former secret key. Return whether a key had it."""
    for column in (ApiKeyRow.digest, ApiKeyRow.old_digest):
        changed = session.scalars(update(ApiKeyRow).where(column == former).values({column: current}).returning(ApiKeyRow.id))
        if changed.first() is not None:
            return True
    return False
