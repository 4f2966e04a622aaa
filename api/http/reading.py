"""Answer reads: equal ones once, unchanged ones from memory, and 304 if the client has it."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from api.http.deps import AppState, State
from api.runtime.answer_cache import MOST_S, Answer
from api.services.principals import Principal
from api.store.database import UnitOfWork

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class Momentary:
    """An answer that is right for so many seconds, although nothing is changed."""

    shown: BaseModel
    lasts_s: float


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request that reads. `known` are the ETags of the answers that the client has.

    `*` in it stands for every ETag.
    """

    state: AppState
    request: Request
    known: frozenset[str]

    async def answer(self, caller: Principal, topic: str, read: Callable[[UnitOfWork], BaseModel | Momentary]) -> Response:
        """Run `read` in one transaction and return its JSON, or 304 if the client has it already.

        `topic` is the id of what the answer shows: a cluster, project or training. Until a change
        of its rows, the answer is kept for callers with the same rights. Those who send the same
        request at the same moment share the transaction.

        The ETag is strong: a hash of the body. So an answer that has changed in any figure is never
        a 304.
        """
        scope = self.request.scope
        rights = (caller.project_id, caller.node_id, caller.scopes)
        key = (scope["path"], scope["query_string"], *rights)

        async def read_now() -> Answer:
            return await self.state.run(lambda uow: _rendered(read(uow)))

        async def work() -> Answer:
            return await self.state.answers.answer(key, topic, read_now)

        answer = self.state.answers.known(key) if scope["caught_up"] else None
        if answer is None:
            answer = await self.state.reads.run(key, work)
        headers = {"ETag": answer.tag}
        if answer.tag in self.known or "*" in self.known:
            return Response(status_code=304, headers=headers)
        return Response(answer.body, media_type="application/json", headers=headers)


def _rendered(answer: BaseModel | Momentary) -> Answer:
    shown, lasts_s = (answer.shown, answer.lasts_s) if isinstance(answer, Momentary) else (answer, MOST_S)
    body = shown.model_dump_json(by_alias=True).encode()
    return Answer(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', lasts_s)


async def get_reading(
    request: Request,
    state: State,
    _if_none_match: Annotated[
        str | None,
        Header(alias="If-None-Match", description="The `ETag` of an answer that the client has. If it is current: 304."),
    ] = None,
) -> ReadRequest:
    """Return the request. Tags are compared weakly, as RFC 9110 demands for `If-None-Match`."""
    listed = ",".join(request.headers.getlist("if-none-match"))
    known = frozenset("*") if listed.strip() == "*" else frozenset(_TAG.findall(listed))
    return ReadRequest(state, request, known)


Reading = Annotated[ReadRequest, Depends(get_reading)]
