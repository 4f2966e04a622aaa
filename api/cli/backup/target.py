"""What a backup is made of, and where a restore goes: a database, a folder of models, a key."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from api.cli.errors import CliError, UsageError

DATABASE: Final = "FLOW_NEXUS_DATABASE_URL"
MODELS: Final = "FLOW_NEXUS_MODELS_DIR"
SECRET: Final = "FLOW_NEXUS_SECRET_KEY"  # noqa: S105 (a variable's name)


@dataclass(frozen=True, slots=True)
class Target:
    """The stored parts of a deployment. `secret_key` is None if the environment has none."""

    engine: Engine
    models: Path
    secret_key: str | None = field(default=None, repr=False)


@contextmanager
def from_environment() -> Iterator[Target]:
    """Yield what FLOW_NEXUS_DATABASE_URL, _MODELS_DIR and _SECRET_KEY name.

    Raises:
        UsageError: A variable is missing.
        CliError: The database cannot be used.
    """
    missing = [name for name in (DATABASE, MODELS) if not os.environ.get(name)]
    if missing:
        raise UsageError(f"these settings are missing: {', '.join(missing)} (source <home>/operator.env of `flow-nexus up`)")
    with connected(os.environ[DATABASE]) as engine:
        yield Target(engine, Path(os.environ[MODELS]), os.environ.get(SECRET))


@contextmanager
def connected(url: str) -> Iterator[Engine]:
    """Yield an engine without limits on statements: a copy of a large table takes long.

    Raises:
        CliError: The database cannot be used.
    """
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 5})
    except (ArgumentError, ImportError):
        raise UsageError(f"{DATABASE} must look like postgresql+psycopg://user:password@host:5432/name") from None
    try:
        yield engine
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or type(error).__name__
        raise CliError(f"the database cannot be used: {str(cause).partition(chr(10))[0]}") from None
    finally:
        engine.dispose()
