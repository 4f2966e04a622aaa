"""HTTP between agents: an agent fetches models by digest, pushes updates and posts messages."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from workers.agent.peers.tokens import Caller, issue
from workers.agent.protocol.common import Peer, UploadResult
from workers.agent.runtime.errors import AgentError

_CHUNK = 1 << 20
_CONNECT_S = 5.0
_READ_S = 60.0
_PART_WAIT_S = 20.0
_PART_PAUSE_S = 0.1
_MOST_FAILURES = 3
T = TypeVar("T", bound=BaseModel)


class PeerClient:
    """Calls other agents, with the token in each `Peer`.

    Every call has a timeout. A call that fails raises an AgentError with status 502.
    """

    def __init__(self, key: str) -> None:
        """`key` is the key of this agent."""
        self._key = key
        # Reading the certificate authorities takes about 20 ms, so it is done once.
        self._tls = httpx.create_ssl_context()

    def _client(self, peer: Peer, read_s: float = _READ_S) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=peer.url,
            headers={**peer.headers, "Authorization": f"Bearer {peer.token}"},
            transport=httpx.AsyncHTTPTransport(verify=self._tls, uds=peer.uds),
            timeout=httpx.Timeout(read_s, connect=_CONNECT_S),
        )

    def introduce(self, self_peer: Peer, reader: Peer) -> Peer:
        """Return the address of this agent with a token for the worker `reader`."""
        return self_peer.model_copy(update={"token": issue(self._key, Caller("worker", reader.node_id))})

    def connection(self, peer: Peer, within_s: float) -> httpx.AsyncClient:
        """Return an HTTP client for many calls to one peer.

        The caller closes it, and turns its errors into an AgentError.
        """
        return self._client(peer, within_s)

    async def fetch_model(self, peer: Peer, digest: str, target: Path, wait_s: float = 0) -> tuple[int, float]:
        """Fetch a model file; return its size in bytes and the transfer's seconds.

        The peer waits up to `wait_s` until it has the model itself.

        Raises:
            AgentError: `pull_failed`, or `digest_mismatch` when the content is not that of
            `digest`.
        """
        return await self.fetch_file(peer, f"/models/{digest}?wait={wait_s:g}", digest, target)

    async def fetch_file(self, peer: Peer, path: str, digest: str, target: Path) -> tuple[int, float]:
        """Fetch the file at `path`; return its size in bytes and the transfer's seconds.

        Raises:
            AgentError: `pull_failed`, or `digest_mismatch` when the content is not that of
            `digest`.
        """
        with _part_of(target) as part:
            fetched = await self._fetch(peer, path, part)
            if fetched is None:
                raise AgentError("pull_failed", f"{peer.node_id} answered {httpx.codes.NO_CONTENT:d}", 502)
            if fetched.digest != digest:
                raise AgentError("digest_mismatch", f"{peer.node_id} sent another file than was asked for", 502)
            part.replace(target)
        return fetched.size, fetched.seconds

    async def fetch_round_model(self, peer: Peer, path: str, folder: Path) -> tuple[str, int, float] | None:
        """Fetch the model at `path` into `folder`, named by its digest.

        It returns the digest, the size in bytes and the transfer's seconds. None while the peer
        has no such model yet.

        Raises:
            AgentError: `pull_failed`, also when the peer will not have the model.
        """
        with _part_of(folder / "new") as part:
            fetched = await self._fetch(peer, path, part)
            if fetched is None:
                return None
            part.replace(folder / f"{fetched.digest}.safetensors")
        return fetched.digest, fetched.size, fetched.seconds

    async def _fetch(self, peer: Peer, path: str, target: Path) -> "_FetchedFile | None":
        """Write the peer's answer to `target`. None for an answer without content.

        Raises:
            AgentError: `pull_failed`.
        """
        hasher, size = hashlib.sha256(), 0
        try:
            async with self._client(peer) as client, client.stream("GET", path) as response:
                if response.status_code == httpx.codes.NO_CONTENT:
                    return None
                if response.status_code != httpx.codes.OK:
                    raise AgentError("pull_failed", f"{peer.node_id} answered {response.status_code}", 502)
                started = time.perf_counter()
                with target.open("wb") as file:
                    async for chunk in response.aiter_bytes(_CHUNK):
                        hasher.update(chunk)
                        size += len(chunk)
                        file.write(chunk)
                return _FetchedFile(hasher.hexdigest(), size, time.perf_counter() - started)
        except httpx.HTTPError as error:
            raise AgentError("pull_failed", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None

    async def fetch_part(self, peer: Peer, path: str, target: Path, within_s: float) -> tuple[int, float]:
        """Wait for a part of another worker and fetch it.

        It returns the size in bytes, and the seconds of the transfer without the wait.

        Raises:
            AgentError: `peer_slow` when the part does not come within `within_s` seconds.
                `peer_left` when the peer has left the exchange.
                `peer_lost` when the peer cannot be reached.
        """
        end, failures = time.monotonic() + within_s, 0
        while (left := end - time.monotonic()) > 0:
            try:
                transfer = await self._fetch_part_once(peer, f"{path}?wait={min(_PART_WAIT_S, left):g}", target)
            except httpx.HTTPError:
                transfer = None
                failures += 1
                if failures == _MOST_FAILURES:
                    raise AgentError("peer_lost", f"{peer.node_id} cannot be reached", 502) from None
            if transfer is not None:
                return transfer
            await asyncio.sleep(_PART_PAUSE_S * (1 + 4 * failures))
        raise AgentError("peer_slow", f"{peer.node_id} did not answer in time", 502)

    async def _fetch_part_once(self, peer: Peer, path: str, target: Path) -> tuple[int, float] | None:
        """Return None when the part is not there yet.

        Raises:
            httpx.HTTPError: when the agent does not answer.
        """
        async with self._client(peer) as client, client.stream("GET", path) as response:
            if response.status_code == httpx.codes.OK:
                started, size = time.perf_counter(), 0
                with target.open("wb") as file:
                    async for chunk in response.aiter_bytes(_CHUNK):
                        size += len(chunk)
                        await asyncio.to_thread(file.write, chunk)
                return size, time.perf_counter() - started
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            if response.status_code == httpx.codes.CONFLICT:
                raise AgentError("peer_left", f"{peer.node_id} has left the exchange", 502)
            # Any other status comes from a proxy. It means that the agent does not answer.
            raise httpx.ReadError(f"HTTP {response.status_code}")

    async def push(self, peer: Peer, training_id: str, number: int, node_id: str, source: Path) -> UploadResult:
        """Send an update's file.

        Raises:
            AgentError: `push_failed`.
        """
        path = f"/trainings/{training_id}/rounds/{number}/updates/{node_id}"
        size = await asyncio.to_thread(lambda: source.stat().st_size)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        try:
            async with self._client(peer) as client:
                response = await client.put(path, content=_chunks(source), headers=headers)
        except httpx.HTTPError as error:
            raise AgentError("push_failed", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        return _read(peer, response, UploadResult, "push_failed")

    async def ask(self, peer: Peer, path: str, question: BaseModel, answer: type[T], *, within_s: float) -> T:
        """Post a message to another agent and return its answer.

        Raises:
            AgentError: `peer_failed` without a valid answer.
        """
        headers = {"Content-Type": "application/json"}
        try:
            # The client's timeout counts between two bytes. A slow peer could block for ever.
            async with asyncio.timeout(within_s), self._client(peer, within_s) as client:
                response = await client.post(path, content=question.model_dump_json(), headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentError("peer_failed", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        return _read(peer, response, answer, "peer_failed")


class _FetchedFile(NamedTuple):
    """A file that was fetched: its SHA-256, its bytes, and the transfer's seconds."""

    digest: str
    size: int
    seconds: float


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for one fetch. Two requests may need the same model at once."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.pull")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _read(peer: Peer, response: httpx.Response, answer: type[T], code: str) -> T:
    if response.status_code != httpx.codes.OK:
        raise AgentError(code, f"{peer.node_id} answered {response.status_code}", 502)
    try:
        return answer.model_validate_json(response.content)
    except ValidationError:
        raise AgentError(code, f"{peer.node_id} sent an answer of the wrong form", 502) from None


async def _chunks(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
