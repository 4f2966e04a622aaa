"""`flow-nexus migrate`: the newest tables, for a deployment with a database of its own."""

import os
from typing import Annotated

import typer

from api.cli.errors import CliError, UsageError
from api.store.migration import MigrationError
from api.store.migration import migrate as migrate_database
from api.store.schema import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S

_VARIABLE = "FLOW_NEXUS_DATABASE_URL"


def migrate(
    lock_timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="The longest wait for a table's lock, in seconds.")
    ] = LOCK_TIMEOUT_S,
    statement_timeout: Annotated[
        float, typer.Option(min=1, max=86_400, help="The longest statement, in seconds.")
    ] = STATEMENT_TIMEOUT_S,
) -> None:
    """Bring the database of FLOW_NEXUS_DATABASE_URL to the tables of this release.

    It is safe to repeat, and safe to run twice at once. `flow-nexus up` migrates by itself.
    """
    url = os.environ.get(_VARIABLE)
    if not url:
        raise UsageError(f"set {_VARIABLE} to the database to migrate")
    try:
        migration = migrate_database(url, lock_timeout_s=lock_timeout, statement_timeout_s=statement_timeout)
    except MigrationError as error:
        raise CliError(str(error)) from None
    if migration.before == migration.after:
        print(f"the database is already at {migration.after}")
    else:
        print(f"the database went from {migration.before or 'no tables'} to {migration.after}")
