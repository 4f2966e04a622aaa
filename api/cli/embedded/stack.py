"""The whole service on one machine, in one folder."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from alembic import command
from alembic.config import Config

from api.cli.embedded import parts, postgres
from api.cli.embedded.errors import StackError
from api.cli.embedded.home import Home, is_free
from api.cli.embedded.supervisor import Say, Supervisor
from api.paths import ALEMBIC_INI
from api.services import keys
from api.settings import Settings
from api.store.database import Database, make_engine

_SANDBOX_VARIABLES = ("E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_HTTP_VERSION")


def _silent(_: str) -> None:
    return


class EmbeddedStack:
    """Start with `with`; afterwards nothing of it runs. Parts that the environment names elsewhere are not started.

    `env` is what `<home>/env` holds: how to reach the API and the sandboxes. Raises StackError when it cannot start.
    """

    def __init__(
        self, home: Path, *, host: str = "127.0.0.1", port: int = 0, concurrency: int = 32, say: Say = _silent
    ) -> None:
        self._home = Home(home)
        self._host = host
        self._port = port
        self._concurrency = concurrency
        self._say = say
        self._supervisor = Supervisor(say)
        self._cleanup = ExitStack()
        self.url = ""
        self.api_key = ""
        self.env: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(self._home.locked())
            undo.callback(self._supervisor.stop)
            self._start()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._cleanup.close()

    def kill(self, part: str) -> None:
        """SIGKILL a part, as an accident would; it is restarted."""
        self._supervisor.kill(part)

    def pid(self, part: str) -> int:
        return self._supervisor.pid(part)

    def _start(self) -> None:
        home, secrets = self._home, self._home.secrets()
        port = self._port or home.port("api")
        if not is_free(self._host, port):
            raise StackError(f"port {port} on {self._host} is in use; choose another with --port")
        previous = _read_env(home.path / "operator.env")
        database_url = self._external("FLOW_NEXUS_DATABASE_URL", previous)
        if database_url is None:
            part, database_url = postgres.prepare(home)
            self._supervisor.start(part)
        else:
            self._say("postgres   external")
        redis_url = self._external("FLOW_NEXUS_REDIS_URL", previous)
        if redis_url is None:
            part, redis_url = parts.redis_server(home, secrets.redis_password)
            self._supervisor.start(part)
        else:
            self._say("redis      external")
        if os.environ.get("E2B_API_KEY", secrets.sandbox_key) == secrets.sandbox_key:
            part, sandbox_url = parts.sandbox_host(home, secrets.sandbox_key)
            sandboxes = {
                "E2B_API_URL": sandbox_url,
                "E2B_SANDBOX_URL": sandbox_url,
                "E2B_API_KEY": secrets.sandbox_key,
                "E2B_HTTP_VERSION": "1.1",
            }
            self._supervisor.start(part)
        else:
            sandboxes = {name: os.environ[name] for name in _SANDBOX_VARIABLES if name in os.environ}
            self._say("sandboxes  external")
        operator = {
            "FLOW_NEXUS_DATABASE_URL": database_url,
            "FLOW_NEXUS_REDIS_URL": redis_url,
            "FLOW_NEXUS_SECRET_KEY": secrets.secret_key,
            "FLOW_NEXUS_MODELS_DIR": str(home.folder("models")),
            **sandboxes,
        }
        self._migrate(operator, secrets.api_key)
        reachable = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104 - asked for by the user
        self.url, self.api_key = f"http://{reachable}:{port}", secrets.api_key
        self.env = {"FLOW_NEXUS_URL": self.url, "FLOW_NEXUS_API_KEY": self.api_key, **sandboxes}
        for part in (
            parts.celery_worker(home, operator, self._concurrency),
            parts.celery_beat(home, operator),
            parts.api(home, operator, self._host, port),
        ):
            self._supervisor.start(part)
        home.write_private("env", _lines(self.env))
        home.write_private("operator.env", _lines(operator))
        self._supervisor.watch()

    def _external(self, variable: str, previous: Mapping[str, str]) -> str | None:
        """The caller's own server, unless the shell has merely sourced what an earlier start of this folder wrote."""
        value = os.environ.get(variable)
        return None if not value or value == previous.get(variable) else value

    def _migrate(self, operator: Mapping[str, str], api_key: str) -> None:
        config = Config(ALEMBIC_INI)
        config.set_main_option("sqlalchemy.url", operator["FLOW_NEXUS_DATABASE_URL"].replace("%", "%%"))
        try:
            command.upgrade(config, "head")
        except Exception as error:
            raise StackError(f"the migrations failed: {type(error).__name__}: {str(error).splitlines()[0]}") from error
        settings = Settings.model_validate(
            {
                "database_url": operator["FLOW_NEXUS_DATABASE_URL"],
                "redis_url": operator["FLOW_NEXUS_REDIS_URL"],
                "secret_key": operator["FLOW_NEXUS_SECRET_KEY"],
                "models_dir": operator["FLOW_NEXUS_MODELS_DIR"],
                "E2B_API_KEY": operator["E2B_API_KEY"],
            }
        )
        database = Database(make_engine(settings), lambda _step, _row_id: None)
        try:
            with database.unit_of_work() as uow:
                keys.ensure(uow.session, settings, project="default", name="embedded stack", plaintext=api_key)
        finally:
            database.dispose()
        self._say("migrations done")


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())


def _quoted(value: str) -> str:
    """As a POSIX shell reads it."""
    plain = all(char.isalnum() or char in "-_./:@=+,?%" for char in value)
    return value if plain and "?" not in value else "'" + value.replace("'", "'\\''") + "'"


def _read_env(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'").replace("'\\''", "'") for name, _, value in pairs}


def check_platform() -> None:
    """StackError where the embedded parts cannot run."""
    if sys.platform == "win32":
        raise StackError("the embedded stack needs Linux or macOS")
