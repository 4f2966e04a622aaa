"""API keys: shown once, kept as a keyed hash, bound to a project and to scopes."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import FieldError, InvalidError, NotFoundError
from api.settings import Settings
from api.store.models import ApiKeyRow, ProjectRow

SCOPES: Final = frozenset({"clusters:read", "clusters:write", "sandboxes:execute", "data:write", "models:read", "admin"})
_USED_RESOLUTION: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for."""

    project_id: str
    key_id: str
    scopes: frozenset[str]


def new_plaintext() -> str:
    """256 random bits, with a prefix by which secret scanners know it."""
    return f"fnx_{secrets.token_urlsafe(32)}"


def authenticate(session: Session, settings: Settings, plaintext: str) -> Principal | None:
    """The key's principal, or None if it is unknown, expired or revoked. Notes the use, to the minute."""
    now = func.clock_timestamp()
    row = session.scalar(
        select(ApiKeyRow).where(
            ApiKeyRow.digest == _digest(settings, plaintext),
            ApiKeyRow.revoked_at.is_(None),
            or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now),
        )
    )
    if row is None:
        return None
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.id == row.id, or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < now - _USED_RESOLUTION))
        .values(last_used_at=now)
        .execution_options(synchronize_session=False)
    )
    return Principal(row.project_id, row.id, frozenset(row.scopes))


def create(
    session: Session,
    settings: Settings,
    *,
    project: str,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    plaintext: str | None = None,
) -> tuple[ApiKeyRow, str]:
    """Make a key, and its project where it is new. Returns the row and the key itself, which nobody can read again."""
    for field, value in (("project", project), ("name", name)):
        if not value.strip() or not value.isprintable():
            message = f"the {field} must be a line of text"
            raise InvalidError(f"invalid_{field}", message, errors=(FieldError(f"/{field}", message),))
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        message = f"unknown scope {unknown[0]!r}" if unknown else "at least one scope is needed"
        raise InvalidError("invalid_scope", message, errors=(FieldError("/scopes", message),))
    secret = plaintext or new_plaintext()
    row = ApiKeyRow(
        id=ids.key_id(),
        project_id=_project_id(session, project),
        name=name,
        prefix=secret[:8],
        digest=_digest(settings, secret),
        scopes=wanted,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, secret


def ensure(session: Session, settings: Settings, *, project: str, name: str, plaintext: str) -> None:
    """Make a full key with this very text, unless it is there already."""
    if session.scalar(select(ApiKeyRow.id).where(ApiKeyRow.digest == _digest(settings, plaintext))) is None:
        create(session, settings, project=project, name=name, scopes=SCOPES, plaintext=plaintext)


def page(session: Session, project: str | None = None) -> Sequence[tuple[ApiKeyRow, str]]:
    """Keys with their projects' names, newest first."""
    query = select(ApiKeyRow, ProjectRow.name).join(ProjectRow).order_by(ApiKeyRow.created_at.desc())
    if project is not None:
        query = query.where(ProjectRow.name == project)
    return [(row, name) for row, name in session.execute(query)]


def revoke(session: Session, key_id: str) -> None:
    found = session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.id == key_id)
        .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.clock_timestamp()))
        .returning(ApiKeyRow.id)
    ).first()
    if found is None:
        raise NotFoundError("key", key_id)


def _project_id(session: Session, name: str) -> str:
    session.execute(insert(ProjectRow).values(id=ids.project_id(), name=name).on_conflict_do_nothing())
    return session.execute(select(ProjectRow.id).where(ProjectRow.name == name)).scalar_one()


def _digest(settings: Settings, plaintext: str) -> bytes:
    """HMAC with the deployment's secret: fast enough for every request, useless to a thief of the database alone.
    A slow hash would add nothing, as the keys are 256 random bits."""
    pepper = b"api-key:" + settings.secret_key.get_secret_value().encode()
    return hmac.digest(pepper, plaintext.encode(), hashlib.sha256)
