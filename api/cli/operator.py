"""The deployment's own database, for whoever runs the service: it needs no API key, and no API."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from api.cli.errors import CliError, UsageError
from api.domain.errors import DomainError
from api.settings import Settings
from api.store.database import Database, UnitOfWork, make_engine


@contextmanager
def unit_of_work() -> Iterator[tuple[UnitOfWork, Settings]]:
    """One transaction in the database that FLOW_NEXUS_DATABASE_URL names."""
    try:
        settings = Settings()
    except ValidationError as error:
        missing = ", ".join(f"FLOW_NEXUS_{item['loc'][0]}".upper() for item in error.errors())
        raise UsageError(
            f"these settings are missing or wrong: {missing} (source <home>/operator.env of `flow-nexus up`)"
        ) from None
    database = Database(make_engine(settings), lambda _step, _row_id: None)
    try:
        with database.unit_of_work() as uow:
            yield uow, settings
    except DomainError as error:
        raise UsageError(f"{error.detail} ({error.code})") from None
    except SQLAlchemyError as error:
        raise CliError(f"the database cannot be used: {type(error).__name__}") from None
    finally:
        database.dispose()
