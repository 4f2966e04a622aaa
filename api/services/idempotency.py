"""Idempotency keys: a repeated POST returns the resource that the first one created."""

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.domain.errors import ConflictError
from api.store.database import UnitOfWork
from api.store.tables import IdempotencyRow


def find(uow: UnitOfWork, project_id: str, key: str, fingerprint: str) -> str | None:
    """Return the id of the resource that a request with this key created, or None.

    The key stays locked until the transaction ends. So a second request with it waits for the
    first.

    Raises:
        ConflictError: the key came with another request before.
    """
    uow.session.execute(
        insert(IdempotencyRow)
        .values(project_id=project_id, key=key, fingerprint=fingerprint, resource_id="")
        .on_conflict_do_nothing()
    )
    row = _row(uow.session, project_id, key)
    if row.fingerprint != fingerprint:
        raise ConflictError("idempotency_key_reused", "This Idempotency-Key was used before with another request.")
    return row.resource_id or None


def store(uow: UnitOfWork, project_id: str, key: str, resource_id: str) -> None:
    _row(uow.session, project_id, key).resource_id = resource_id


def forget(uow: UnitOfWork, project_id: str, key: str, resource_id: str) -> None:
    """Delete the key of a refused request, unless it belongs to a newer resource by now."""
    uow.session.execute(
        delete(IdempotencyRow).where(
            IdempotencyRow.project_id == project_id, IdempotencyRow.key == key, IdempotencyRow.resource_id == resource_id
        )
    )


def _row(session: Session, project_id: str, key: str) -> IdempotencyRow:
    return session.execute(
        select(IdempotencyRow).where(IdempotencyRow.project_id == project_id, IdempotencyRow.key == key).with_for_update()
    ).scalar_one()
