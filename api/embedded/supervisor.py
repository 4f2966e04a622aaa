"""Keeps parts running: starts them in order, restarts what dies, stops them in reverse."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from api.embedded.child import Child, Part
from api.embedded.errors import StackError, StackInterruptedError

Say = Callable[[str], None]
_LOOK_EVERY_S = 0.05
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# A part that lived so long starts again with the first pause.
_STEADY_S = 30.0
_WHOLE_STOP_S = 9.0
# What is kept back for each part that is still to be stopped.
_RESERVE_S = 0.8


class _SupervisedChild:
    """A part, its present life, and when the next one may begin."""

    def __init__(self, part: Part, child: Child) -> None:
        self.part = part
        self.child = child
        self.announced = True
        self.pause_s = _FIRST_PAUSE_S
        self.due: float | None = None


class Supervisor:
    """Use from one thread. `interrupted` is asked while a start waits; `keep_open` is a descriptor that children inherit."""

    def __init__(self, say: Say, keep_open: int, interrupted: Callable[[], bool]) -> None:
        self._say = say
        self._keep_open = keep_open
        self._interrupted = interrupted
        self._watched: dict[str, _SupervisedChild] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # Every child is forked by one thread that ends after the last of them.
        self._forks = ThreadPoolExecutor(1, thread_name_prefix="forks")
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, part: Part) -> None:
        """Start a part and wait until it is ready. StackError when it cannot be."""
        try:
            child = self._fork(part)
        except OSError as error:
            raise StackError(f"{part.name} cannot be started: {error}") from error
        with self._lock:
            self._watched[part.name] = _SupervisedChild(part, child)
        while not child.is_ready():
            if self._interrupted():
                raise StackInterruptedError
            if child.exit_code is not None:
                raise StackError(f"{part.name} ended with exit code {child.exit_code}; see {part.log}")
            if child.age_s > part.ready_timeout_s:
                raise StackError(f"{part.name} was not ready within {part.ready_timeout_s:.0f} s; see {part.log}")
            time.sleep(_LOOK_EVERY_S)
        self._say(f"{part.name:<10} ready     {child.age_s:5.1f} s")

    def watch(self) -> None:
        """From now on, restart what dies."""
        self._watcher.start()

    def pid(self, name: str) -> int:
        with self._lock:
            return self._watched[name].child.pid

    def kill(self, name: str) -> None:
        """SIGKILL a part, as an accident would; it is restarted."""
        with self._lock:
            self._watched[name].child.kill()

    def stop(self) -> None:
        """Stop every part, the last started first. All of it is over within 10 seconds."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        end = time.monotonic() + _WHOLE_STOP_S
        for left in reversed(range(len(self._watched))):
            watched = list(self._watched.values())[left]
            watched.child.stop(min(watched.part.stop_timeout_s, end - time.monotonic() - left * _RESERVE_S))
        self._watched.clear()
        self._forks.shutdown()

    def _fork(self, part: Part) -> Child:
        return self._forks.submit(Child, part, self._keep_open).result()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            for watched in self._watched.values():
                if watched.child.exit_code is not None:
                    self._revive(watched)
                elif not watched.announced and watched.child.is_ready():
                    watched.announced = True
                    self._say(f"{watched.part.name:<10} ready     {watched.child.age_s:5.1f} s")

    def _revive(self, watched: _SupervisedChild) -> None:
        now, name = time.monotonic(), watched.part.name
        if watched.due is None:
            if watched.child.age_s > _STEADY_S:
                watched.pause_s = _FIRST_PAUSE_S
            watched.due = now + watched.pause_s
            why = f"died with exit code {watched.child.exit_code}"
        elif now >= watched.due:
            watched.child.stop(0)
            try:
                child = self._fork(watched.part)
            except OSError as error:
                watched.due = now + watched.pause_s
                why = f"cannot be started: {error}"
            else:
                with self._lock:
                    watched.child, watched.announced, watched.due = child, False, None
                return
        else:
            return
        self._say(f"{name:<10} {why}; restarting in {watched.pause_s:.1f} s (log: {watched.part.log})")
        watched.pause_s = min(_LONGEST_PAUSE_S, watched.pause_s * 2)
