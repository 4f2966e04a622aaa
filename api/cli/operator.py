"""Direct access to the database, for the operator. It needs no API and no API key."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from api.cli.errors import CliError, UsageError
from api.domain.errors import DomainError
from api.settings import Settings, wrong_settings
from api.store.database import Database, UnitOfWork, make_engine


def read_settings() -> Settings:
    """Return the settings of the environment.

    Raises:
        UsageError: A setting is missing or wrong. The message has no value.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = wrong_settings(error)
        raise UsageError(
            f"these settings are missing or wrong: {wrong} (source <home>/operator.env of `flow-nexus up`)"
        ) from None


@contextmanager
def unit_of_work() -> Iterator[tuple[UnitOfWork, Settings]]:
    """Yield one transaction in the database of FLOW_NEXUS_DATABASE_URL.

    Raises:
        UsageError: A setting is missing or wrong, or the request is refused.
        CliError: The database cannot be used.
    """
    settings = read_settings()
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
