"""Connections to agents that outlive a call, on real sockets."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from api.domain.sandboxes import Endpoint
from tests.workers.agent.acting import KEYS
from workers.agent.peers.tokens import Caller
from workers.agent_client import AgentClient, AgentUnreachableError
from workers.network import Network

ANSWER = b'{"stopped": true}'


class Server:
    """Answers each request with `ANSWER`. It ends a connection after `most` requests.

    With `mute` it ends the connection instead of the last answer.
    """

    def __init__(self, path: Path, most: int = 1000, *, mute: bool = False) -> None:
        self.accepted = 0
        self.requests = 0
        self._most = most
        self._mute = mute
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.accepted += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection, self.accepted), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError), connection:
            for count in range(1, self._most + 1):
                received = b""
                while b"\r\n\r\n" not in received:
                    chunk = connection.recv(1 << 16)
                    if not chunk:
                        return
                    received += chunk
                self.requests += 1
                if self._mute and number == 1 and count == self._most:
                    return
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n"
                connection.sendall(head.encode() + ANSWER)

    def end(self) -> None:
        self._socket.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def served(path: Path, most: int = 1000, *, mute: bool = False) -> Iterator[Server]:
    server = Server(path, most, mute=mute)
    try:
        yield server
    finally:
        server.end()
        path.unlink(missing_ok=True)


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


def stop(network: Network, path: Path) -> bool:
    async def call() -> bool:
        client = AgentClient(Caller("worker", "w1"), Endpoint("http://agent", {}, str(path)), KEYS, network.connections)
        return (await client.stop("train_fed_1")).stopped

    return network.run(call())


def test_calls_of_several_threads_use_one_connection(network: Network, tmp_path: Path) -> None:
    with served(tmp_path / "agent.sock") as server:
        for _ in range(3):
            thread = threading.Thread(target=stop, args=(network, tmp_path / "agent.sock"))
            thread.start()
            thread.join()
        assert (server.accepted, server.requests) == (1, 3)


def test_an_agent_that_was_restarted_is_called_again(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with served(path):
        assert stop(network, path)
    with pytest.raises(AgentUnreachableError):
        stop(network, path)
    with served(path) as restarted:
        assert stop(network, path)
        assert restarted.accepted == 1


def test_a_connection_that_ended_while_idle_is_opened_again(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with served(path, most=2, mute=True) as server:
        assert stop(network, path)
        assert stop(network, path)
        assert (server.accepted, server.requests) == (2, 3)


def test_a_new_connection_that_ends_without_an_answer_is_no_reason_to_call_again(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with served(path, most=1, mute=True) as server:
        with pytest.raises(AgentUnreachableError):
            stop(network, path)
        assert (server.accepted, server.requests) == (1, 1)


def test_a_forked_process_has_connections_of_its_own(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with served(path) as server:
        assert stop(network, path)
        child = os.fork()
        if child == 0:
            os._exit(0 if stop(network, path) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert stop(network, path)
        assert (server.accepted, server.requests) == (2, 3)


def test_closing_ends_the_calls_that_run_and_a_later_call_starts_again(network: Network, tmp_path: Path) -> None:
    begun, errors = threading.Event(), []

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(60)

    def waits() -> None:
        try:
            network.run(wait())
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=waits)
    thread.start()
    assert begun.wait(10)
    network.close()
    thread.join(10)
    assert errors == ["the network of this process was closed"]
    with served(tmp_path / "agent.sock"):
        assert stop(network, tmp_path / "agent.sock")


def test_an_error_of_a_coroutine_reaches_its_caller(network: Network) -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        network.run(fail())
