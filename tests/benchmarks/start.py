"""Seconds from the POST of a node until it runs, with warm agents and with agents by command.

    python -m tests.benchmarks.start [--repeats 3] [--skip-restart]

Both kinds run in the same run, one after the other, each on an embedded stack of its own. For each
it prints the seconds for one node and for five at once (median), and the core-seconds of one
sandbox with its agent until it runs. It prints the memory of an idle agent and of all the
processes of five sandboxes, as PSS. The template process is counted extra. At last it kills the
sandbox host and prints the seconds until all five agents answer again.

It needs Linux, and root to read the memory of other users' processes.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from api.embedded.stack import EmbeddedStack
from tests.benchmarks.memory import pss
from tests.benchmarks.rows import row
from tests.benchmarks.template_process import wait_for_template
from tests.e2e.walk import Walk
from tests.workers.sandboxes.hosting import descendants

_MIB = 1 << 20
_KINDS = {"warm": "on", "by command": "off"}
_GOALS_S = {1: 0.3, 5: 1.0}
_AGENT_GOAL_MIB = 40
_RESTART_GOAL_S = 3.0
_TEMPLATE = "workers.sandboxes.host.isolation.template"
_READY_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.start")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-restart", action="store_true")
    options = parser.parse_args()
    for kind, setting in _KINDS.items():
        os.environ["FLOW_NEXUS_WARM_AGENTS"] = setting
        with (
            tempfile.TemporaryDirectory(prefix="start-", ignore_cleanup_errors=True) as folder,
            EmbeddedStack(Path(folder) / "home", port=0) as stack,
        ):
            if kind == "warm":
                wait_for_template(Path(folder) / "home")
            _measure(stack, kind, options.repeats, restart=not options.skip_restart)


def _measure(stack: EmbeddedStack, kind: str, repeats: int, *, restart: bool) -> None:
    walk = Walk(stack.url, stack.api_key)
    for count, goal in _GOALS_S.items():
        seconds, used = [], []
        for repeat in range(repeats):
            cluster = walk.create()
            before = _cpu_seconds(stack)
            started = time.monotonic()
            nodes = _deploy(walk, cluster, count)
            seconds.append(time.monotonic() - started)
            used.append((_cpu_seconds(stack) - before) / count)
            if count > 1 and repeat == repeats - 1:
                _print_memory(stack, kind)
                if restart:
                    _restart(stack, walk, cluster, nodes, kind)
            walk.terminate(cluster)
        wanted = f"<= {goal} s" if kind == "warm" else "-"
        row(f"{kind}: POST until running, {count} node(s)", f"{statistics.median(seconds):.2f} s", wanted)
        row(f"{kind}: core-seconds of a sandbox and its agent", f"{statistics.median(used):.2f}", "-")


def _deploy(walk: Walk, cluster: str, count: int) -> list[str]:
    def one(_: int) -> str:
        body = {"node_type": "worker", "model": "base", "template": "python"}
        path, prefer = f"/v1/clusters/{cluster}/nodes", {"Prefer": "wait=120"}
        node = walk.call("POST", path, json=body, headers=prefer)
        assert node["status"] == "running", node
        return str(node["node_id"])

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def _print_memory(stack: EmbeddedStack, kind: str) -> None:
    pids = descendants(stack.pid("sandboxes"))
    template = [pid for pid in pids if _TEMPLATE in _words(pid)]
    agents = [pid for pid in pids if "workers.agent" in _words(pid)]
    wanted = f"<= {_AGENT_GOAL_MIB} MiB" if kind == "warm" else "-"
    row(f"{kind}: memory of an idle agent", _mib(agents, divided_by=len(agents)), wanted)
    row(f"{kind}: all processes of 5 sandboxes", _mib([pid for pid in pids if pid not in template]), "-")
    if template:
        row(f"{kind}: the template process", _mib(template), "-")


def _restart(stack: EmbeddedStack, walk: Walk, cluster: str, nodes: Sequence[str], kind: str) -> None:
    """Kill the sandbox host and wait until each node has been lost and runs again."""
    stack.kill("sandboxes")
    started = time.monotonic()
    lost: set[str] = set()
    while True:
        states = {node["node_id"]: node["status"] for node in walk.call("GET", f"/v1/clusters/{cluster}/nodes")["items"]}
        lost |= {node for node, status in states.items() if status != "running"}
        if lost >= set(nodes) and all(states[node] == "running" for node in nodes):
            break
        assert time.monotonic() - started < _READY_S, states
        time.sleep(0.05)
    wanted = f"<= {_RESTART_GOAL_S} s" if kind == "warm" else "-"
    row(f"{kind}: agents answer after a restart of the host", f"{time.monotonic() - started:.1f} s", wanted)


def _cpu_seconds(stack: EmbeddedStack) -> float:
    """Return the CPU time of all processes below the sandbox host, and of their ended children."""
    ticks = 0
    for pid in descendants(stack.pid("sandboxes")):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _mib(pids: Sequence[int], divided_by: int = 1) -> str:
    sizes = [size for pid in pids if (size := pss(pid)) is not None]
    return f"{sum(sizes) / divided_by / _MIB:.0f} MiB (PSS)" if sizes else "not readable"


if __name__ == "__main__":
    main()
