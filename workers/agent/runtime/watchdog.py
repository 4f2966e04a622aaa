"""Restarts a dead agent, if its node's autonomy allows it (from 0.3 on).

The watchdog is the program that was started. It reads the config, and forks the agent before
anything large is imported. The key stays in memory, in processes that no other process of the same
user can inspect. It is never in an argument, the environment or a second file.
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
    """Run `serve` in a child process, and again whenever the child dies.

    `serve` gets the decisions of all restarts before it. This process exits with the child's exit
    status in three cases: the child ended normally, this process was asked to end, or the agent
    died too often. In the last case the control plane must restore the node.
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
    """Fork, and wait for the child. Return its exit status, negative for a signal.

    Return 0 also if this process was asked to end.
    """
    child = os.fork()
    if child == 0:
        _end_with_parent()
        serve(decisions)
        os._exit(0)
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if received else status


def _end_with_parent() -> None:
    """End with the watchdog (Linux). This process would otherwise block the next agent's port."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
