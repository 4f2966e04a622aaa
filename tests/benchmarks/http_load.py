"""Clients that send the same request again and again, each over one connection that stays open."""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import uvloop

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """The answers of all clients. `seconds` are their latencies, sorted."""

    seconds: Sequence[float]
    took_s: float
    size: int

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took_s

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that `share` (0 to 1) of the answers do not exceed."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


class _Client(asyncio.Protocol):
    """One connection. It sends the next request when an answer has arrived."""

    def __init__(self, requests: Sequence[bytes], end: float, done: "asyncio.Future[None]", latencies: list[float]) -> None:
        self._requests = requests
        self._sent = 0
        self._end = end
        self._done = done
        self._latencies = latencies
        self._buffer = b""
        self._began = 0.0
        self.size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        self._began = time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(_HEAD_END)
        if not mark:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(f"an answer is not a 200: {head[:200]!r} {body[:300]!r}")
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._latencies.append(time.perf_counter() - self._began)
        self._buffer, self.size = b"", length
        if time.perf_counter() < self._end:
            self._send()
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the server closed the connection")

    def _fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(reason))


async def _send_all(urls: Sequence[str], headers: dict[str, str], clients: int, seconds: float) -> Load:
    parts = [urlsplit(url) for url in urls]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    requests = [
        f"GET {part.path}{'?' if part.query else ''}{part.query} HTTP/1.1\r\nHost: {part.netloc}\r\n{lines}\r\n".encode()
        for part in parts
    ]
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    latencies: list[float] = []
    running, ends = [], []
    for number in range(clients):
        done = loop.create_future()
        own = requests[number % len(requests) :] + requests[: number % len(requests)]
        client = _Client(own, began + seconds, done, latencies)
        await loop.create_connection(partial(_same, client), parts[0].hostname or "", parts[0].port or 80)
        running.append(client)
        ends.append(done)
    await asyncio.gather(*ends)
    return Load(sorted(latencies), time.perf_counter() - began, max(client.size for client in running))


def _same(client: _Client) -> _Client:
    return client


def _play(urls: Sequence[str], headers: dict[str, str], clients: int, seconds: float) -> Load:
    return uvloop.run(_send_all(urls, headers, clients, seconds))


def load(urls: Sequence[str], headers: dict[str, str], clients: int, seconds: float) -> Load:
    """Let `clients` clients ask for the URLs in turn, in a process of their own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_play, (urls, headers, clients, seconds))
