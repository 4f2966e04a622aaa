"""Keeps parts running: starts them in order, restarts what dies, stops them in reverse."""

import threading
import time
from collections.abc import Callable

from api.cli.embedded.child import Child, Part

Say = Callable[[str], None]
_LOOK_EVERY_S = 0.1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 30.0


class Supervisor:
    def __init__(self, say: Say) -> None:
        self._say = say
        self._children: dict[str, Child] = {}
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, part: Part) -> None:
        """Start a part and wait until it is ready. StackError when it cannot be."""
        child = Child(part)
        with self._lock:
            self._children[part.name] = child
        seconds = child.wait_ready()
        self._say(f"{part.name:<10} ready     {seconds:5.1f} s")

    def watch(self) -> None:
        """From now on, restart what dies."""
        self._thread.start()

    def pid(self, name: str) -> int:
        with self._lock:
            return self._children[name].pid

    def kill(self, name: str) -> None:
        """SIGKILL a part, as an accident would; it is restarted."""
        with self._lock:
            self._children[name].kill()

    def stop(self) -> None:
        """Stop every part, the last started first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            for child in reversed(self._children.values()):
                child.stop()
            self._children.clear()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            with self._lock:
                for name, child in list(self._children.items()):
                    if child.exit_code is not None:
                        self._revive(name, child)

    def _revive(self, name: str, child: Child) -> None:
        now = time.monotonic()
        if name not in self._due:
            pause = _FIRST_PAUSE_S if now - child.started > _STEADY_S else self._pauses.get(name, _FIRST_PAUSE_S)
            self._pauses[name] = min(_LONGEST_PAUSE_S, pause * 2)
            self._due[name] = now + pause
            self._say(f"{name:<10} died with exit code {child.exit_code}; restarting in {pause:.1f} s (see {child.part.log})")
        elif now >= self._due[name]:
            del self._due[name]
            child.stop()
            self._children[name] = Child(child.part)
            self._say(f"{name:<10} restarted")
