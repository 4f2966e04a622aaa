"""The database schema: the configuration of Alembic and the newest revision."""

from pathlib import Path
from typing import Final, TextIO

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL

import migrations

# A migration that waits for a lock makes every later query of that table wait too.
LOCK_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 600.0


def alembic_config(url: URL | str | None = None, stdout: TextIO | None = None) -> Config:
    """Return Alembic's configuration for the migrations of this package, wherever it is installed.

    Without `url`, only the migration scripts can be read.
    """
    config = Config() if stdout is None else Config(stdout=stdout)
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if url is not None:
        url_text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", url_text.replace("%", "%%"))
    return config


def newest_revision() -> str | None:
    """Return the revision that the database has after `upgrade head`."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def is_known(revision: str) -> bool:
    """Return whether this release has a migration with this name. A newer one may have others."""
    try:
        ScriptDirectory.from_config(alembic_config()).get_revision(revision)
    except CommandError:
        return False
    return True
