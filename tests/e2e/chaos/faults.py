"""Faults of a part of the stack, a sandbox or an agent.

Each fault is real: a signal, or a call of the sandbox provider.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Walk
from tests.workers.sandboxes.hosting import descendants, stopped

PARTS = ("api", "worker", "beat", "redis", "postgres", "sandboxes")
# Rounds need neither of them.
_NOT_IN_ROUNDS = ("api", "beat")
# This includes the supervisor's pause before it restarts a part.
_DRAIN_S = 8.0
_SIGNAL_AGENT = """
import os
for entry in os.listdir("/proc"):
    if entry.isdigit():
        try:
            words = open(f"/proc/{{entry}}/cmdline").read()
        except OSError:
            continue
        if "\\0workers.agent\\0" in words:
            os.kill(int(entry), {number})
"""


@dataclass(frozen=True)
class Target:
    """The target of a fault. `worker` is the node id of the chosen worker."""

    stack: EmbeddedStack
    walk: Walk
    worker: str
    aggregator: str
    frozen_s: float

    def sandbox(self, node_id: str) -> str:
        return str(self.walk.call("GET", f"/v1/nodes/{node_id}")["sandbox_id"])


@dataclass(frozen=True)
class Fault:
    """A fault. With `rounds_go_on`, rounds continue while it lasts.

    Then it must be the last fault of its training, because the training may end meanwhile.
    """

    name: str
    inflict: Callable[[Target], None]
    loses_worker: bool = False
    rounds_go_on: bool = False


def _kill(part: str) -> Fault:
    return Fault(f"SIGKILL {part}", lambda target: target.stack.kill(part), rounds_go_on=part in _NOT_IN_ROUNDS)


def _drain(part: str) -> Fault:
    def inflict(target: Target) -> None:
        pid = target.stack.pid(part)
        end = time.monotonic() + _DRAIN_S
        os.kill(pid, signal.SIGTERM)
        while target.stack.pid(part) == pid:
            assert time.monotonic() < end, f"{part} did not end within {_DRAIN_S:.0f} s of SIGTERM"
            time.sleep(0.1)

    return Fault(f"SIGTERM {part}", inflict, rounds_go_on=part in _NOT_IN_ROUNDS)


def _freeze(part: str) -> Fault:
    def inflict(target: Target) -> None:
        pid = target.stack.pid(part)
        # Postgres serves from child processes. The host's children are sandboxes, which continue.
        pids = [pid, *(descendants(pid) if part == "postgres" else ())]
        with stopped(pids):
            time.sleep(target.frozen_s)

    return Fault(f"SIGSTOP {part}", inflict, rounds_go_on=part in _NOT_IN_ROUNDS)


def _end_sandbox(role: str) -> Fault:
    def inflict(target: Target) -> None:
        node_id = target.worker if role == "worker" else target.aggregator
        Sandbox.kill(target.sandbox(node_id), **provider(target.stack))

    return Fault(f"sandbox of the {role} ended", inflict, loses_worker=role == "worker", rounds_go_on=role == "worker")


def _agent(role: str, number: signal.Signals) -> Fault:
    def inflict(target: Target) -> None:
        node_id = target.worker if role == "worker" else target.aggregator
        _signal_agent(target, node_id, number)
        if number == signal.SIGSTOP:
            time.sleep(target.frozen_s)
            _signal_agent(target, node_id, signal.SIGCONT)

    return Fault(f"{number.name} agent of the {role}", inflict)


def _signal_agent(target: Target, node_id: str, number: signal.Signals) -> None:
    # This calls the provider, because the control plane refuses while the node is lost.
    sandbox = Sandbox.connect(target.sandbox(node_id), **provider(target.stack))
    code = _SIGNAL_AGENT.format(number=int(number))
    sandbox.commands.run(f"python - <<'END'\n{code}\nEND", timeout=20)


def _cut(role: str) -> Fault:
    def inflict(target: Target) -> None:
        """Stop the process that carries connections into the sandbox.

        Its programs continue, but nothing can reach them.
        """
        sandbox_id = target.sandbox(target.worker if role == "worker" else target.aggregator)
        host = target.stack.pid("sandboxes")
        launchers = [pid for pid in descendants(host) if any(sandbox_id in argument for argument in _arguments(pid))]
        pids = [pid for launcher in launchers for pid in descendants(launcher) if "envd" in _arguments(pid)]
        assert pids, "the sandbox's first process was not found"
        with stopped(pids):
            time.sleep(target.frozen_s)

    return Fault(f"network of the {role} cut", inflict)


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *map(_kill, PARTS),
        *map(_freeze, PARTS),
        *map(_drain, ("api", "worker")),
        _end_sandbox("worker"),
        _end_sandbox("aggregator"),
        _agent("worker", signal.SIGKILL),
        _agent("aggregator", signal.SIGKILL),
        _agent("worker", signal.SIGSTOP),
        _agent("aggregator", signal.SIGSTOP),
        _cut("worker"),
        _cut("aggregator"),
    )
}
