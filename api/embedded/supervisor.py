"""Keeps parts running: starts them in order, restarts what dies, stops them in reverse."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from api.embedded.errors import StackError, StackInterruptedError
from api.embedded.process import ServiceProcess, ServiceSpec

Reporter = Callable[[str], None]
_LOOK_EVERY_S = 0.05
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# A part that lived so long starts again with the first pause.
_STEADY_S = 30.0
_WHOLE_STOP_S = 9.0
# What is kept back for each part that is still to be stopped.
_RESERVE_S = 0.8


class _SupervisedService:
    """A part, its present life, and when the next one may begin."""

    def __init__(self, service: ServiceSpec, process: ServiceProcess) -> None:
        self.service = service
        self.process = process
        self.announced = True
        self.pause_s = _FIRST_PAUSE_S
        self.due: float | None = None


class Supervisor:
    """Use from one thread. `interrupted` is asked while a start waits; `keep_open` is a descriptor that children inherit."""

    def __init__(self, report: Reporter, keep_open: int, interrupted: Callable[[], bool]) -> None:
        self._report = report
        self._keep_open = keep_open
        self._interrupted = interrupted
        self._watched: dict[str, _SupervisedService] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # Every child is forked by one thread that ends after the last of them.
        self._forks = ThreadPoolExecutor(1, thread_name_prefix="forks")
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, service: ServiceSpec) -> None:
        """Start a part and wait until it is ready. StackError when it cannot be."""
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
            time.sleep(_LOOK_EVERY_S)
        self._report(f"{service.name:<10} ready     {process.age_s:5.1f} s")

    def watch(self) -> None:
        """From now on, restart what dies."""
        self._watcher.start()

    def pid(self, name: str) -> int:
        with self._lock:
            return self._watched[name].process.pid

    def kill(self, name: str) -> None:
        """SIGKILL a part, as an accident would; it is restarted."""
        with self._lock:
            self._watched[name].process.kill()

    def stop(self) -> None:
        """Stop every part, the last started first. All of it is over within 10 seconds."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        end = time.monotonic() + _WHOLE_STOP_S
        for left in reversed(range(len(self._watched))):
            watched = list(self._watched.values())[left]
            watched.process.stop(min(watched.service.stop_timeout_s, end - time.monotonic() - left * _RESERVE_S))
        self._watched.clear()
        self._forks.shutdown()

    def _fork(self, service: ServiceSpec) -> ServiceProcess:
        return self._forks.submit(ServiceProcess, service, self._keep_open).result()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            for watched in self._watched.values():
                if watched.process.exit_code is not None:
                    self._revive(watched)
                elif not watched.announced and watched.process.is_ready():
                    watched.announced = True
                    self._report(f"{watched.service.name:<10} ready     {watched.process.age_s:5.1f} s")

    def _revive(self, watched: _SupervisedService) -> None:
        now, name = time.monotonic(), watched.service.name
        if watched.due is None:
            if watched.process.age_s > _STEADY_S:
                watched.pause_s = _FIRST_PAUSE_S
            watched.due = now + watched.pause_s
            why = f"died with exit code {watched.process.exit_code}"
        elif now >= watched.due:
            watched.process.stop(0)
            try:
                process = self._fork(watched.service)
            except OSError as error:
                watched.due = now + watched.pause_s
                why = f"cannot be started: {error}"
            else:
                with self._lock:
                    watched.process, watched.announced, watched.due = process, False, None
                return
        else:
            return
        self._report(f"{name:<10} {why}; restarting in {watched.pause_s:.1f} s (log: {watched.service.log})")
        watched.pause_s = min(_LONGEST_PAUSE_S, watched.pause_s * 2)
