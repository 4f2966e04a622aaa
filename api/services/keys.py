"""API keys. A key is shown once and stored as a keyed hash.

It belongs to a project and has scopes. A data owner's key also belongs to one node.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError, FieldError, InvalidError, NotFoundError
from api.domain.scopes import OWNER_SCOPES, check_grant, checked
from api.domain.scopes import SCOPES as SCOPES
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.services.principals import PREFIX_LENGTH, Principal, digest, key_is_valid
from api.settings import Settings
from api.store import events
from api.store.tables import ApiKeyRow, NodeRow, ProjectRow


class IssuedKey(NamedTuple):
    """A key and its secret. The secret cannot be read again later."""

    row: ApiKeyRow
    secret: str

    @property
    def id(self) -> str:
        return self.row.id


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A key to create.

    `node_id` is the node of a data owner's key. None as `scopes` are all scopes of a data owner.
    """

    name: str
    scopes: Iterable[str] | None
    node_id: str | None = None
    expires_at: datetime | None = None


def new_plaintext() -> str:
    """Return a new secret of 256 random bits. Secret scanners recognise its prefix."""
    return f"fnx_{secrets.token_urlsafe(32)}"


def create(session: Session, settings: Settings, project: str, spec: KeySpec, plaintext: str | None = None) -> IssuedKey:
    """Create a key, and its project when that is new."""
    for field, value in (("project", project), ("name", spec.name)):
        if not value.strip() or not value.isprintable():
            message = f"the {field} must be a line of text"
            raise InvalidError(f"invalid_{field}", message, errors=(FieldError(f"/{field}", message),))
    scopes = checked(spec.scopes or ())
    return _add(session, settings, _project_id(session, project), replace(spec, scopes=scopes), plaintext)


def issue(session: Session, settings: Settings, principal: Principal, spec: KeySpec) -> IssuedKey:
    """Create a key in the caller's project. With `node_id`, create it for that node's data owner.

    The key gets no scope that the caller lacks.
    """
    if spec.node_id is not None:
        _check_owner(session, principal.project_id, spec.node_id)
    requested = OWNER_SCOPES if spec.scopes is None else spec.scopes
    scopes = checked(requested, for_owner=spec.node_id is not None)
    check_grant(principal.scopes, scopes)
    return _add(session, settings, principal.project_id, replace(spec, scopes=scopes))


def ensure(session: Session, settings: Settings, *, project: str, name: str, plaintext: str) -> None:
    """Create a key with this secret and all scopes, unless it exists already."""
    if session.scalar(select(ApiKeyRow.id).where(ApiKeyRow.digest == digest(settings, plaintext))) is None:
        create(session, settings, project, KeySpec(name, SCOPES), plaintext)


def page(session: Session, project_id: str, page_request: PageRequest) -> ResultPage[ApiKeyRow]:
    return fetch_page(session, select(ApiKeyRow).where(ApiKeyRow.project_id == project_id), ApiKeyRow, page_request)


def list_all(session: Session, project: str | None = None) -> Sequence[tuple[ApiKeyRow, str]]:
    """Return the operator's list: keys with the names of their projects, the newest first."""
    query = select(ApiKeyRow, ProjectRow.name).join(ProjectRow).order_by(ApiKeyRow.created_at.desc())
    if project is not None:
        query = query.where(ProjectRow.name == project)
    return [(row, name) for row, name in session.execute(query)]


def get(session: Session, project_id: str | None, key_id: str) -> ApiKeyRow:
    """Return a key of the project.

    None as the project finds keys of every project, for the operator.
    """
    query = select(ApiKeyRow).where(ApiKeyRow.id == key_id)
    if project_id is not None:
        query = query.where(ApiKeyRow.project_id == project_id)
    row = session.scalar(query)
    if row is None:
        raise NotFoundError("key", key_id)
    return row


def revoke(session: Session, project_id: str | None, key_id: str) -> ApiKeyRow:
    """Revoke a key at once and for ever. It is safe to repeat the call."""
    row = _locked(session, project_id, key_id)
    if row.revoked_at is None:
        row.revoked_at = func.clock_timestamp()
        events.announce(session, row.id)
        session.flush()
        session.refresh(row)
    return row


def rotate(
    session: Session,
    settings: Settings,
    project_id: str | None,
    key_id: str,
    overlap_s: int,
    caller: Principal | None = None,
) -> IssuedKey:
    """Give a key a new secret. The previous secret stays valid for `overlap_s` seconds.

    Older secrets stop at once. `caller` learns the new secret. So it must have all scopes of the
    key.
    """
    row = _locked(session, project_id, key_id)
    if caller is not None:
        check_grant(caller.scopes, row.scopes)
    if not session.scalar(select(key_is_valid()).where(ApiKeyRow.id == row.id)):
        raise ConflictError("key_not_valid", "The key is expired or revoked; create a new one.")
    if row.node_id is not None:
        _check_owner(session, row.project_id, row.node_id)
    secret = new_plaintext()
    row.old_digest = row.digest if overlap_s else None
    row.old_valid_until = func.clock_timestamp() + timedelta(seconds=overlap_s) if overlap_s else None
    row.digest, row.prefix = digest(settings, secret), secret[:PREFIX_LENGTH]
    row.rotated_at = func.clock_timestamp()
    events.announce(session, row.id)
    session.flush()
    session.refresh(row)
    return IssuedKey(row, secret)


def _add(session: Session, settings: Settings, project_id: str, spec: KeySpec, plaintext: str | None = None) -> IssuedKey:
    secret = plaintext or new_plaintext()
    row = ApiKeyRow(
        id=ids.key_id(),
        project_id=project_id,
        node_id=spec.node_id,
        name=spec.name,
        prefix=secret[:PREFIX_LENGTH],
        digest=digest(settings, secret),
        scopes=list(spec.scopes or ()),
        expires_at=spec.expires_at,
    )
    session.add(row)
    session.flush()
    return IssuedKey(row, secret)


def _check_owner(session: Session, project_id: str, node_id: str) -> None:
    # The lock orders a first upload and a new key.
    node = session.scalar(
        select(NodeRow).where(NodeRow.id == node_id, NodeRow.project_id == project_id).with_for_update(key_share=True)
    )
    if node is None:
        raise NotFoundError("node", node_id)
    if node.role == "aggregator":
        raise ConflictError("not_a_data_node", "An aggregator has no data owner; choose a worker or a validator.")
    _check_unsealed(node)


def _check_unsealed(node: NodeRow) -> None:
    if node.data_owner and node.owner_data_at is not None:
        raise ConflictError(
            "node_sealed", f"{node.id} already holds its data owner's data, so it gets no new key. Deploy another node."
        )


def _locked(session: Session, project_id: str | None, key_id: str) -> ApiKeyRow:
    row = get(session, project_id, key_id)
    session.refresh(row, with_for_update={"key_share": True})
    return row


def _project_id(session: Session, name: str) -> str:
    session.execute(insert(ProjectRow).values(id=ids.project_id(), name=name).on_conflict_do_nothing())
    return session.execute(select(ProjectRow.id).where(ProjectRow.name == name)).scalar_one()
