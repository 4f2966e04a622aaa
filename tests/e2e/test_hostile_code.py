"""Hostile code through the real API, on the whole stack.

It finds nothing of the stack, and the stack still works.
"""

import json
import time
from collections.abc import Iterator

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Walk
from tests.workers.sandboxes.hostile.test_reach import listening

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def nodes(stack: EmbeddedStack) -> Iterator[tuple[Walk, str, str]]:
    walk = Walk(stack.url, stack.api_key)
    status = walk.call("GET", "/readyz")
    if status["sandboxes"]["isolation"] == "none":
        pytest.skip("this machine allows no isolation")
    cluster_id, (worker,), aggregator = walk.cluster(1)
    yield walk, worker, aggregator
    walk.call("POST", f"/v1/clusters/{cluster_id}/terminate")


def execute(walk: Walk, node_id: str, code: str, **fields: object) -> dict[str, object]:
    answer: dict[str, object] = walk.call("POST", f"/v1/sandboxes/{node_id}/execute", json={"code": code, **fields})
    return answer


def limits_hit(walk: Walk, node_id: str) -> set[str]:
    """Return the names of the reached limits, or nothing if the host does not answer in time."""
    return {hit["limit"] for hit in walk.call("GET", f"/v1/sandboxes/{node_id}")["limit_hits"] or []}


def test_nothing_of_the_stack_is_found(stack: EmbeddedStack, nodes: tuple[Walk, str, str]) -> None:
    walk, worker, _ = nodes
    addresses, names = listening()
    assert int(stack.url.rpartition(":")[2]) in {port for _, port in addresses}
    code = f"""
import glob, os, socket
for family, places in ((socket.AF_INET, {addresses!r}), (socket.AF_UNIX, {names!r})):
    for place in places:
        with socket.socket(family) as way:
            way.settimeout(1)
            try:
                way.connect(place)
                print("reached", place)
            except OSError:
                pass
own = int(open("/proc/self/stat").read().split()[0])
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        print(path, open(path).read() if str(own) not in path else "")
    except OSError:
        pass
print(dict(os.environ))
"""
    result = execute(walk, worker, code, language="python")
    shown = f"{result['stdout']}{result['stderr']}"
    # The only server inside is the sandbox's own agent.
    assert [line for line in shown.splitlines() if line.startswith("reached") and ", 8000)" not in line] == []
    for word in ("FLOW_NEXUS_DATABASE_URL", "FLOW_NEXUS_REDIS_URL", "FLOW_NEXUS_SECRET_KEY", "E2B_API_KEY", stack.api_key):
        assert word not in shown


def test_a_bomb_is_stopped_and_its_limit_named(nodes: tuple[Walk, str, str]) -> None:
    walk, worker, aggregator = nodes
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    # A busy machine takes longer to reach the limit on processes.
    for seconds in (3, 30):
        assert execute(walk, worker, bomb, language="python", timeout_s=seconds)["limit"] == "timeout"
        if "processes" in limits_hit(walk, worker):
            break
    assert execute(walk, aggregator, "print('alive')", language="python")["stdout"] == "alive\n"
    # envd reports a limit to the host, and a bomb's last children may still delay it.
    end = time.monotonic() + 30
    while not {"processes", "timeout"} <= limits_hit(walk, worker):
        assert time.monotonic() < end, json.dumps(walk.call("GET", f"/v1/sandboxes/{worker}"))
        time.sleep(0.2)
    assert walk.call("GET", f"/v1/sandboxes/{aggregator}")["limit_hits"] == []
    assert execute(walk, worker, "print('alive')", language="python")["stdout"] == "alive\n"
    assert walk.call("GET", "/healthz")["status"] == "ok"
