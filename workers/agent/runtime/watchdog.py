"""Starts a dead agent again, where its node's autonomy allows it (from 0.3 on).

The watchdog is the program that was started: it reads the config, and forks the agent before anything large is imported. The
key goes on in memory alone, in processes that nobody of the same user may look into; neither an argument nor the environment
nor a second file ever holds it.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from workers.agent.protocol.common import Decision
from workers.agent.runtime.autonomy import RESTART
from workers.agent.runtime.logs import Log

_PR_SET_PDEATHSIG = 1
_MOST_RESTARTS = 5
_WITHIN_S = 600.0
_PAUSE_S = 0.5


def watch(serve: Callable[[list[Decision]], None], log: Log) -> NoReturn:
    """Run `serve` in a child, and again whenever that dies; `serve` is told of the restarts that led to it.

    Exits, with the child's exit status, once the child ended by itself in good order, this process was asked to end, or the
    agent dies too often: then it is the control plane's again to bring it back.
    """
    decisions: list[Decision] = []
    restarts: list[float] = []
    while True:
        status = _child(serve, decisions)
        now = time.monotonic()
        restarts = [moment for moment in restarts if now - moment < _WITHIN_S]
        if status == 0 or len(restarts) == _MOST_RESTARTS:
            sys.exit(status if status >= 0 else 128 - status)
        restarts.append(now)
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        decision = RESTART.decision(f"the agent ended with {reason}")
        decisions.append(decision)
        log("restarted", reason=decision.reason)
        time.sleep(_PAUSE_S * len(restarts))


def _child(serve: Callable[[list[Decision]], None], decisions: list[Decision]) -> int:
    """Fork, and wait for the child: its exit status, negative for a signal. 0 also where this process was told to end."""
    child = os.fork()
    if child == 0:
        _end_with_parent()
        serve(decisions)
        os._exit(0)
    told: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        told.append(number)
        os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if told else status


def _end_with_parent() -> None:
    """An agent without its watchdog would be in the way of the next one's port (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
