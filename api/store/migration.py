"""Migrate a database to the newest revision, with limits on its locks and statements."""

import io
from dataclasses import dataclass
from typing import Final

import psycopg.errors
from alembic import command
from alembic.util.exc import CommandError
from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError, DBAPIError

from api.store.schema import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, alembic_config, newest_revision

_BEFORE: Final = "revision_before"


class MigrationError(Exception):
    """The database was not migrated. The message is one line for the operator, without a secret."""


@dataclass(frozen=True, slots=True)
class Migration:
    """The revisions before and after. `before` is None for a database without tables."""

    before: str | None
    after: str | None


def migrate(
    url: URL | str, *, lock_timeout_s: float = LOCK_TIMEOUT_S, statement_timeout_s: float = STATEMENT_TIMEOUT_S
) -> Migration:
    """Migrate to the newest revision. Of two calls at once, one waits and finds nothing to do.

    Each migration has a transaction of its own. A migration that fails changes nothing.

    Raises:
        MigrationError: The database was not migrated to the newest revision.
    """
    config = alembic_config(url, stdout=io.StringIO())
    config.attributes.update(lock_timeout_s=lock_timeout_s, statement_timeout_s=statement_timeout_s)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(_unknown_revision(config.attributes.get(_BEFORE))) from error
    except (DBAPIError, ArgumentError, ImportError) as error:
        raise MigrationError(_reason(error, lock_timeout_s, statement_timeout_s)) from error
    return Migration(config.attributes[_BEFORE], newest_revision())


def _unknown_revision(before: str | None) -> str:
    return f"the database is at revision {before}, which this release does not know; install the newer release"


def _reason(error: Exception, lock_timeout_s: float, statement_timeout_s: float) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else None
    match cause:
        case psycopg.errors.LockNotAvailable():
            return (
                f"a transaction held a table's lock for more than {lock_timeout_s:g} s, so the migration gave way to it; "
                "run it again when no long transaction runs"
            )
        case psycopg.errors.QueryCanceled():
            return f"a statement took more than {statement_timeout_s:g} s; run it again with a longer --statement-timeout"
        case psycopg.errors.InsufficientPrivilege():
            return "the database's user may not change tables; migrate as the owner of the tables"
        case psycopg.OperationalError(sqlstate=None):
            return f"the database cannot be reached: {str(cause).partition(chr(10))[0]}"
        case None:
            return "FLOW_NEXUS_DATABASE_URL must look like postgresql+psycopg://user:password@host:5432/name"
        case _:
            return f"the database refused the migration: {type(cause).__name__}"
