"""Requests and responses that several routes share."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from workers.agent.protocol.storable import dump
from workers.agent.runtime.errors import AgentError

_LONGEST_WAIT_S = 60.0
T = TypeVar("T", bound=BaseModel)


class ModelFileResponse(FileResponse):
    """A model has many megabytes, and each chunk costs a switch to a thread: use large chunks."""

    chunk_size = 1 << 20

    def __init__(self, path: object) -> None:
        super().__init__(str(path), media_type="application/octet-stream")


def json_response(message: BaseModel) -> Response:
    return Response(dump(message), media_type="application/json")


def round_of(request: Request) -> tuple[str, int]:
    """Return the training id and the round number of the request's path."""
    return request.path_params["training_id"], request.path_params["number"]


def wait_seconds(request: Request, default: float = 0.0) -> float:
    """Return the seconds that a long poll may take.

    Raises: AgentError `invalid_message`.
    """
    try:
        return min(_LONGEST_WAIT_S, max(0.0, float(request.query_params.get("wait", default))))
    except ValueError:
        raise AgentError("invalid_message", "wait must be a number of seconds") from None


async def read_message(message_type: type[T], request: Request) -> T:
    """Raises: pydantic's ValidationError."""
    return message_type.model_validate_json(await request.body())


def posted(message_type: type[T], handler: Callable[[T], Awaitable[BaseModel]]) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that reads one message and answers with another."""
    return partial(_answer, message_type, handler)


async def _answer(message_type: type[T], handler: Callable[[T], Awaitable[BaseModel]], request: Request) -> Response:
    return json_response(await handler(await read_message(message_type, request)))
