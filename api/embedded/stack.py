"""The whole service on one machine, in one folder."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from api.embedded import environment, monitoring, postgres, services
from api.embedded.errors import StackError, StackInterruptedError
from api.embedded.schema import prepare_database
from api.embedded.state_folder import Secrets, StateFolder, listen_error
from api.embedded.supervisor import Reporter, Supervisor
from api.runtime import extras

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the user chooses the address


def _silent(_: str) -> None:
    return


def _never() -> bool:
    return False


class EmbeddedStack:
    """Use it as a context manager: no process of the stack runs after the `with` block.

    The stack does not start a service that the caller's environment already names.
    `port` 0 means a free port. `api_workers` None means one API process for each two cores.
    `report` gets one line for each change of a service.
    The start calls `interrupted` repeatedly and ends when it returns true.

    In the block, `url` and `api_key` belong to the API. `env` has the variables of `<home>/env`,
    which reach the API and the sandboxes.

    Raises:
        StackError: The stack cannot start.
        StackInterruptedError: `interrupted` returned true during the start.
    """

    def __init__(  # noqa: PLR0913 - each is an option of the stack
        self,
        home: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        concurrency: int = 32,
        api_workers: int | None = None,
        report: Reporter = _silent,
        interrupted: Callable[[], bool] = _never,
    ) -> None:
        self.folder = StateFolder(home)
        self.url = ""
        self.api_key = ""
        self.env: dict[str, str] = {}
        self._host = host
        self._port = port
        self._concurrency = concurrency
        self._api_workers = api_workers or services.api_workers()
        self._report = report
        self._interrupted = interrupted
        self._cleanup = ExitStack()
        self._supervisor: Supervisor

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            lock = undo.enter_context(self.folder.locked(self._interrupted))
            sockets = undo.enter_context(self.folder.socket_folder())
            self._supervisor = Supervisor(self._report, lock, self._interrupted)
            undo.callback(self._supervisor.stop)
            self._start(sockets)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._cleanup.close()

    def kill(self, service: str) -> None:
        """Send SIGKILL to a service. It is restarted."""
        self._supervisor.kill(service)

    def pid(self, service: str) -> int:
        return self._supervisor.pid(service)

    def _start(self, sockets: Path) -> None:
        if missing := extras.missing(os.environ):
            raise StackError(missing)
        folder, secrets = self.folder, self.folder.secrets()
        port = self._port or folder.port("api")
        if reason := listen_error(self._host, port):
            raise StackError(f"the API cannot listen on {self._host} port {port}: {reason}; choose another with --port")
        operator = {
            "FLOW_NEXUS_DATABASE_URL": self._database(sockets),
            "FLOW_NEXUS_REDIS_URL": self._redis(secrets),
            "FLOW_NEXUS_SECRET_KEY": secrets.secret_key,
            "FLOW_NEXUS_MODELS_DIR": str(folder.subfolder("models")),
            "FLOW_NEXUS_LOGS_DIR": str(folder.subfolder("logs")),
        }
        sandboxes = self._sandboxes(secrets)
        operator |= sandboxes
        self._check_interrupted()
        prepare_database(operator, secrets.api_key)
        self._report(f"{'schema':<10} ready")
        reachable = _ANY_ADDRESS.get(self._host, self._host)
        self.url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
        self.api_key = secrets.api_key
        self.env = {"FLOW_NEXUS_URL": self.url, "FLOW_NEXUS_API_KEY": self.api_key, **sandboxes}
        folder.write_private("env", environment.lines(self.env))
        folder.write_private("operator.env", environment.lines(operator))
        control = environment.control(operator)
        control |= monitoring.settings(folder, self._host, control)
        monitoring.write_targets(folder, self.url, control)
        self._supervisor.start(services.celery_worker(folder, control, self._concurrency))
        self._supervisor.start(services.celery_beat(folder, control))
        self._supervisor.start(services.api(folder, control, self._host, port, self.url, self._api_workers))
        self._supervisor.watch()

    def _database(self, sockets: Path) -> str:
        embedded = postgres.url(sockets)
        if external := _external("FLOW_NEXUS_DATABASE_URL", embedded):
            self._report_external("postgres")
            return external
        self._supervisor.start(postgres.prepare(self.folder, sockets, environment.plain(), self._report))
        return embedded

    def _redis(self, secrets: Secrets) -> str:
        if external := _external("FLOW_NEXUS_REDIS_URL", secrets.redis_password):
            self._report_external("redis")
            return external
        service, url = services.redis_server(self.folder, environment.plain(), secrets.redis_password)
        self._supervisor.start(service)
        return url

    def _sandboxes(self, secrets: Secrets) -> Mapping[str, str]:
        external = environment.sandbox_settings(os.environ)
        if external.get("E2B_API_KEY", secrets.sandbox_key) != secrets.sandbox_key:
            self._report_external("sandboxes")
            return external
        service, url = services.sandbox_host(self.folder, environment.sandbox_host(), secrets.sandbox_key)
        self._supervisor.start(service)
        return {
            "E2B_API_URL": url,
            "E2B_SANDBOX_URL": url,
            "E2B_API_KEY": secrets.sandbox_key,
            "E2B_HTTP_VERSION": "1.1",
        }

    def _report_external(self, name: str) -> None:
        self._report(f"{name:<10} external")
        self._check_interrupted()

    def _check_interrupted(self) -> None:
        if self._interrupted():
            raise StackInterruptedError


def _external(variable: str, embedded_mark: str) -> str | None:
    """Return the URL of the caller's own server, or None.

    A value with `embedded_mark` comes from the `operator.env` of this folder.
    So it is not the caller's own.
    """
    value = os.environ.get(variable)
    return value if value and embedded_mark not in value else None
