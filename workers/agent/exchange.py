"""Tensors and questions between agents, over HTTP: models are pulled by digest, updates pushed."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from workers.agent.errors import AgentError
from workers.agent.protocol import Peer, Receipt

_CHUNK = 1 << 20
_CONNECT_S = 5.0
_READ_S = 60.0
T = TypeVar("T", bound=BaseModel)


class Exchange:
    """Talks to other agents with the cluster's token. Every call has a timeout; what fails is an AgentError, status 502."""

    def __init__(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        # Reading the certificate authorities takes about 20 ms: once, not for every call.
        self._tls = httpx.create_ssl_context()

    def _client(self, peer: Peer, read_s: float = _READ_S) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=peer.url,
            headers={**peer.headers, **self._headers},
            transport=httpx.AsyncHTTPTransport(verify=self._tls, uds=peer.uds),
            timeout=httpx.Timeout(read_s, connect=_CONNECT_S),
        )

    async def pull(self, peer: Peer, digest: str, target: Path) -> int:
        """Fetch a model file; returns its bytes. `pull_failed`, or `digest_mismatch` for other content than was named."""
        # Of its own: two requests may want the same model at once.
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.pull")
        part.parent.mkdir(parents=True, exist_ok=True)
        hasher, size = hashlib.sha256(), 0
        try:
            async with self._client(peer) as client, client.stream("GET", f"/models/{digest}") as response:
                if response.status_code != httpx.codes.OK:
                    raise AgentError("pull_failed", f"{peer.node_id} answered {response.status_code}", 502)
                with part.open("wb") as file:
                    async for chunk in response.aiter_bytes(_CHUNK):
                        hasher.update(chunk)
                        size += len(chunk)
                        file.write(chunk)
            if hasher.hexdigest() != digest:
                raise AgentError("digest_mismatch", f"{peer.node_id} sent another model than was asked for", 502)
            part.replace(target)
        except httpx.HTTPError as error:
            raise AgentError("pull_failed", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        finally:
            part.unlink(missing_ok=True)
        return size

    async def push(self, peer: Peer, training_id: str, number: int, node_id: str, source: Path) -> Receipt:
        """Send an update's file. `push_failed` when it did not arrive."""
        path = f"/trainings/{training_id}/rounds/{number}/updates/{node_id}"
        size = await asyncio.to_thread(lambda: source.stat().st_size)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        try:
            async with self._client(peer) as client:
                response = await client.put(path, content=_chunks(source), headers=headers)
        except httpx.HTTPError as error:
            raise AgentError("push_failed", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        return _read(peer, response, Receipt, "push_failed")

    async def ask(self, peer: Peer, path: str, question: BaseModel, answer: type[T], *, within_s: float) -> T:
        """Post a message to another agent. `peer_failed` when no proper answer comes."""
        headers = {"Content-Type": "application/json"}
        try:
            # The client's timeout is between two bytes: a peer that trickles would hold the asker for ever.
            async with asyncio.timeout(within_s), self._client(peer, within_s) as client:
                response = await client.post(path, content=question.model_dump_json(), headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentError("peer_failed", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        return _read(peer, response, answer, "peer_failed")


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
