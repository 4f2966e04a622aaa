import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.workers.agent.impostor import Answer, impostor, says
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.admin import AgentHealth
from workers.agent.protocol.common import Peer, UploadResult
from workers.agent.protocol.training import CheckShard
from workers.agent.runtime.errors import AgentError

KEY = "key-of-the-asker"
MODEL = b"a model" * 200_000
DIGEST = hashlib.sha256(MODEL).hexdigest()
QUESTION = CheckShard(dataset="/data/x.json")


def trickling(content: bytes, pause_s: float) -> Answer:
    """An answer that comes one byte at a time, so that no single wait is long."""

    async def answer(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for byte in content:
                yield bytes([byte])
                await asyncio.sleep(pause_s)

        return StreamingResponse(body(), media_type="application/json")

    return answer


def pulled(peer: Peer, target: Path, times: int = 1) -> list[int]:
    async def pull() -> list[int]:
        exchange = PeerClient(KEY)
        transfers = await asyncio.gather(*(exchange.fetch_model(peer, DIGEST, target) for _ in range(times)))
        return [size for size, _ in transfers]

    return asyncio.run(pull())


def refused(work: object) -> AgentError:
    with pytest.raises(AgentError) as caught:
        asyncio.run(work)  # type: ignore[arg-type]
    assert caught.value.status == 502
    assert KEY not in caught.value.message
    return caught.value


def test_a_model_is_pulled_with_the_peers_pass_and_lies_whole_under_its_name(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def answer(request: Request) -> Response:
        seen.append(request.headers.get("authorization"))
        assert request.url.path == f"/models/{DIGEST}"
        return Response(MODEL)

    with impostor(answer) as peer:
        assert pulled(peer.model_copy(update={"token": "a pass"}), tmp_path / "new/model") == [len(MODEL)]
    assert (tmp_path / "new/model").read_bytes() == MODEL
    assert seen == ["Bearer a pass"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]


def test_requests_that_want_the_same_model_at_once_all_get_it(tmp_path: Path) -> None:
    async def answer(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for start in range(0, len(MODEL), 100_000):
                yield MODEL[start : start + 100_000]
                await asyncio.sleep(0.005)

        return StreamingResponse(body())

    with impostor(answer) as peer:
        assert pulled(peer, tmp_path / "model", times=4) == [len(MODEL)] * 4
    assert (tmp_path / "model").read_bytes() == MODEL
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (MODEL[:-1], 200, "digest_mismatch"),
        (b"", 200, "digest_mismatch"),
        (MODEL, 404, "pull_failed"),
        (MODEL, 500, "pull_failed"),
    ],
)
def test_what_is_not_the_model_that_was_asked_for_is_thrown_away(
    tmp_path: Path, content: bytes, status: int, code: str
) -> None:
    with impostor(says(content, status)) as peer:
        assert refused(PeerClient(KEY).fetch_model(peer, DIGEST, tmp_path / "model")).code == code
    assert list(tmp_path.iterdir()) == []


def test_a_peer_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    nobody = Peer(node_id="w9", url="http://agent", uds=str(tmp_path / "nothing.sock"))
    exchange = PeerClient(KEY)
    (tmp_path / "update").write_bytes(b"x")
    started = time.monotonic()
    assert refused(exchange.fetch_model(nobody, DIGEST, tmp_path / "model")).code == "pull_failed"
    assert refused(exchange.push(nobody, "t", 1, "w1", tmp_path / "update")).code == "push_failed"
    assert refused(exchange.ask(nobody, "/scores", QUESTION, AgentHealth, within_s=30)).code == "peer_failed"
    assert time.monotonic() - started < 10


def test_an_update_is_sent_with_its_length_and_brings_a_receipt(tmp_path: Path) -> None:
    (tmp_path / "update").write_bytes(MODEL)

    async def answer(request: Request) -> Response:
        assert (request.method, request.url.path) == ("PUT", "/trainings/t/rounds/3/updates/w1")
        assert request.headers["content-length"] == str(len(MODEL))
        size = len(await request.body())
        return Response(UploadResult(accepted=True, bytes=size).model_dump_json())

    with impostor(answer) as peer:
        receipt = asyncio.run(PeerClient(KEY).push(peer, "t", 3, "w1", tmp_path / "update"))
    assert receipt == UploadResult(accepted=True, bytes=len(MODEL))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"accepted": true}', b'{"accepted": true, "bytes": 1, "more": 2}', b"\xff"]
)
def test_an_answer_of_another_form_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "update").write_bytes(b"x")
    with impostor(says(content)) as peer:
        found = refused(PeerClient(KEY).push(peer, "t", 1, "w1", tmp_path / "update"))
    assert (found.code, found.message) == ("push_failed", "w9 sent an answer of the wrong form")


def test_a_peer_that_trickles_its_answer_does_not_hold_the_asker() -> None:
    """Otherwise one member of a committee could block the training for ever."""
    with impostor(trickling(b"{" + b" " * 10_000, 0.05)) as peer:
        started = time.monotonic()
        assert refused(PeerClient(KEY).ask(peer, "/scores", QUESTION, AgentHealth, within_s=0.6)).code == "peer_failed"
        assert 0.5 < time.monotonic() - started < 10
