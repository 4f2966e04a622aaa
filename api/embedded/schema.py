"""Prepare the database before the first request: the schema and the stack's own API key."""

from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from api.embedded.errors import StackError
from api.services import keys
from api.settings import Settings
from api.store.database import Database, make_engine
from api.store.migration import migrate

_PROJECT = "default"
_KEY_NAME = "embedded stack"


def prepare_database(operator: Mapping[str, str], api_key: str) -> None:
    """Migrate to the newest revision and create the key; both only if it is still needed.

    Raises:
        StackError: The database cannot be prepared.
    """
    try:
        migrate(operator["FLOW_NEXUS_DATABASE_URL"])
        _ensure_key(_settings(operator), api_key)
    except Exception as error:
        raise StackError(f"the database cannot be prepared: {type(error).__name__}: {_first_line(error)}") from error


def _ensure_key(settings: Settings, api_key: str) -> None:
    database = Database(make_engine(settings), lambda _step, _row_id: None)
    try:
        with database.unit_of_work() as uow:
            keys.ensure(uow.session, settings, project=_PROJECT, name=_KEY_NAME, plaintext=api_key)
    finally:
        database.dispose()


def _settings(operator: Mapping[str, str]) -> Settings:
    return Settings.model_validate(
        {
            "database_url": operator["FLOW_NEXUS_DATABASE_URL"],
            "redis_url": operator["FLOW_NEXUS_REDIS_URL"],
            "secret_key": operator["FLOW_NEXUS_SECRET_KEY"],
            "models_dir": operator["FLOW_NEXUS_MODELS_DIR"],
            "E2B_API_KEY": operator["E2B_API_KEY"],
        }
    )


def _first_line(error: Exception) -> str:
    cause = error.orig if isinstance(error, SQLAlchemyError) and hasattr(error, "orig") else error
    return str(cause).partition("\n")[0]
