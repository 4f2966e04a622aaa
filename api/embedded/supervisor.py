"""Keep services running: start them in order, restart dead ones, stop them in reverse order."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from api.embedded.errors import StackError, StackInterruptedError
from api.embedded.process import ServiceProcess, ServiceSpec

Reporter = Callable[[str], None]
_POLL_S = 0.05
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# A service that ran this long gets the first pause again.
_STEADY_S = 30.0
# The time for stopping all services together.
_WHOLE_STOP_S = 9.0
# The share of that time that is reserved for each service that still runs.
_RESERVE_S = 0.8


class _SupervisedService:
    """A service, its current process, and the time of its next start."""

    def __init__(self, service: ServiceSpec, process: ServiceProcess) -> None:
        self.service = service
        self.process = process
        self.reported_ready = True
        self.pause_s = _FIRST_PAUSE_S
        self.restart_at: float | None = None


class Supervisor:
    """Use it from one thread.

    A start that waits calls `interrupted` repeatedly.
    Child processes inherit the descriptor `keep_open`.
    """

    def __init__(self, report: Reporter, keep_open: int, interrupted: Callable[[], bool]) -> None:
        self._report = report
        self._keep_open = keep_open
        self._interrupted = interrupted
        self._watched: dict[str, _SupervisedService] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # One thread forks every child process. It ends after the last of them.
        self._forks = ThreadPoolExecutor(1, thread_name_prefix="forks")
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, service: ServiceSpec) -> None:
        """Start a service and wait until it is ready.

        Raises:
            StackError: The service cannot be started or does not become ready.
            StackInterruptedError: `interrupted` returned true during the wait.
        """
        try:
            process = self._fork(service)
        except OSError as error:
            raise StackError(f"{service.name} cannot be started: {error}") from error
        with self._lock:
            self._watched[service.name] = _SupervisedService(service, process)
        while not process.is_ready():
            if self._interrupted():
                raise StackInterruptedError
            if process.exit_code is not None:
                raise StackError(f"{service.name} ended with exit code {process.exit_code}; see {service.log}")
            if process.age_s > service.ready_timeout_s:
                raise StackError(f"{service.name} was not ready within {service.ready_timeout_s:.0f} s; see {service.log}")
            time.sleep(_POLL_S)
        self._report(f"{service.name:<10} ready     {process.age_s:5.1f} s")

    def watch(self) -> None:
        """Restart each service that dies, from now on."""
        self._watcher.start()

    def pid(self, name: str) -> int:
        with self._lock:
            return self._watched[name].process.pid

    def kill(self, name: str) -> None:
        """Send SIGKILL to a service. It is restarted."""
        with self._lock:
            self._watched[name].process.kill()

    def stop(self) -> None:
        """Stop every service within 10 seconds, the last started first."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        deadline = time.monotonic() + _WHOLE_STOP_S
        for remaining, watched in reversed(list(enumerate(self._watched.values()))):
            time_left = deadline - time.monotonic() - remaining * _RESERVE_S
            watched.process.stop(min(watched.service.stop_timeout_s, time_left))
        self._watched.clear()
        self._forks.shutdown()

    def _fork(self, service: ServiceSpec) -> ServiceProcess:
        return self._forks.submit(ServiceProcess, service, self._keep_open).result()

    def _watch(self) -> None:
        while not self._stopping.wait(_POLL_S):
            for watched in self._watched.values():
                if watched.process.exit_code is not None:
                    self._restart(watched)
                elif not watched.reported_ready and watched.process.is_ready():
                    watched.reported_ready = True
                    self._report(f"{watched.service.name:<10} ready     {watched.process.age_s:5.1f} s")

    def _restart(self, watched: _SupervisedService) -> None:
        """Start a dead service again once its pause is over."""
        if watched.restart_at is None:
            if watched.process.age_s > _STEADY_S:
                watched.pause_s = _FIRST_PAUSE_S
            self._schedule_restart(watched, f"died with exit code {watched.process.exit_code}")
        elif time.monotonic() >= watched.restart_at:
            watched.process.stop(0)
            try:
                process = self._fork(watched.service)
            except OSError as error:
                self._schedule_restart(watched, f"cannot be started: {error}")
                return
            with self._lock:
                watched.process, watched.reported_ready, watched.restart_at = process, False, None

    def _schedule_restart(self, watched: _SupervisedService, reason: str) -> None:
        service, pause_s = watched.service, watched.pause_s
        watched.restart_at = time.monotonic() + pause_s
        self._report(f"{service.name:<10} {reason}; restarting in {pause_s:.1f} s (log: {service.log})")
        watched.pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
