"""A server that answers calls like a broken or dishonest agent."""

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.workers.agent.agents import serving
from workers.agent.protocol.common import Peer

Answer = Callable[[Request], Awaitable[Response]]


@contextmanager
def impostor(answer: Answer, node_id: str = "w9") -> Iterator[Peer]:
    """A peer on a Unix socket that answers every request with `answer`."""
    folder = Path(tempfile.mkdtemp(prefix="agent-"))
    methods = ["GET", "POST", "PUT"]
    app = Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
    try:
        with serving(app, str(folder / "x.sock")):
            yield Peer(node_id=node_id, url="http://agent", uds=str(folder / "x.sock"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def says(content: bytes | str, status: int = 200) -> Answer:
    async def answer(_: Request) -> Response:
        return Response(content, status, media_type="application/json")

    return answer
