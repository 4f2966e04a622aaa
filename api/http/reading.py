"""Answer reads: equal ones of the same moment once, and 304 to a client that has the answer."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from api.http.deps import AppState, State
from api.services.principals import Principal
from api.store.database import UnitOfWork

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request that reads. `known` are the ETags of the answers that the client has.

    `*` in it stands for every ETag.
    """

    state: AppState
    request: Request
    known: frozenset[str]

    async def answer(self, caller: Principal, read: Callable[[UnitOfWork], BaseModel]) -> Response:
        """Run `read` in one transaction and return its JSON, or 304 if the client has it already.

        Callers with the same rights who send the same request at the same moment share the
        transaction. The ETag is strong: a hash of the body. So an answer that has changed in any
        figure is never a 304.
        """
        scope = self.request.scope
        rights = (caller.project_id, caller.node_id, caller.scopes)
        key = (scope["path"], scope["query_string"], *rights)

        async def work() -> tuple[bytes, str]:
            return await self.state.run(lambda uow: _rendered(read(uow)))

        body, tag = await self.state.reads.run(key, work)
        headers = {"ETag": tag}
        if tag in self.known or "*" in self.known:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)


def _rendered(answer: BaseModel) -> tuple[bytes, str]:
    body = answer.model_dump_json(by_alias=True).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


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
