"""Checks of the database: reachable, migrated, usable, and with the same time."""

import time
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from api.cli.doctor.findings import Finding, failed, note, ok
from api.settings import Settings
from api.store.database import make_engine
from api.store.inspection import DatabaseFacts, inspect, seconds_since_step
from api.store.schema import is_known, newest_revision

# Leases and expiry times of sandboxes are a few seconds long.
MOST_CLOCK_OFFSET_S: Final = 5.0
_STEP_S: Final = 60.0
_URL: Final = "FLOW_NEXUS_DATABASE_URL must look like postgresql+psycopg://user:password@host:5432/name"
_REACH: Final = "start PostgreSQL, or correct FLOW_NEXUS_DATABASE_URL"


def check(settings: Settings) -> Iterator[Finding]:
    try:
        engine = make_engine(settings)
    except (ArgumentError, ImportError):
        yield failed("database", "the URL cannot be used", _URL)
        return
    try:
        started = time.time()
        facts = inspect(engine)
        middle = (started + time.time()) / 2
        yield _server(facts, settings)
        yield _revision(facts)
        yield clock(facts.now.timestamp() - middle)
        if facts.revision == newest_revision():
            yield _steps(seconds_since_step(engine))
    except SQLAlchemyError as error:
        yield failed("database", _first_line(error), _REACH)
    finally:
        engine.dispose()


def _server(facts: DatabaseFacts, settings: Settings) -> Finding:
    name, title = "database", f"PostgreSQL {facts.version.partition(' ')[0]}"
    if facts.is_replica:
        return failed(name, f"{title} is a read-only replica", "name the primary server in FLOW_NEXUS_DATABASE_URL")
    if facts.encoding != "UTF8":
        return failed(name, f"{title} has the encoding {facts.encoding}", "create the database with ENCODING 'UTF8'")
    if not facts.may_write:
        remedy = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES to this user"
        return failed(name, f"{title} does not let its user write rows", remedy)
    if settings.database_pool_size > facts.max_connections // 2:
        detail = f"{title} takes {facts.max_connections} connections, each process of ours up to {settings.database_pool_size}"
        return note(name, detail, "raise max_connections, or lower FLOW_NEXUS_DATABASE_POOL_SIZE")
    return ok(name, f"{title}, {facts.max_connections} connections")


def _revision(facts: DatabaseFacts) -> Finding:
    head = newest_revision()
    if facts.revision == head:
        return ok("migrations", f"at {head}")
    if facts.revision is None:
        return failed("migrations", "the database has no tables", "run `flow-nexus migrate`")
    if not is_known(facts.revision):
        return note("migrations", f"at {facts.revision}, which a newer release made", "finish the upgrade to that release")
    return failed("migrations", f"at {facts.revision}, this release needs {head}", "run `flow-nexus migrate`")


def clock(offset_s: float) -> Finding:
    """Judge the difference of the database's clock from this machine's."""
    if abs(offset_s) > MOST_CLOCK_OFFSET_S:
        detail = f"the database's clock differs by {offset_s:+.1f} s"
        return failed("clock", detail, "let both machines follow NTP, for example with chrony")
    return ok("clock", f"the database's clock differs by {offset_s:+.2f} s")


def _steps(age_s: float | None) -> Finding:
    remedy = "start a Celery worker and beat; until then, work waits"
    if age_s is None:
        return note("steps", "no Celery worker has taken a step yet", remedy)
    if age_s > _STEP_S:
        return note("steps", f"no Celery worker has taken a step for {age_s:.0f} s", remedy)
    return ok("steps", f"a Celery worker took one {age_s:.0f} s ago")


def _first_line(error: SQLAlchemyError) -> str:
    """Return what libpq says. It names host, port and user, never the password."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    return f"it cannot be used: {str(cause or type(error).__name__).partition(chr(10))[0]}"
