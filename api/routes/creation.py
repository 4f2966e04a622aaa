"""Create a resource at most once for each `Idempotency-Key`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel

from api.http.deps import AppState, IdempotencyKey, State
from api.services import idempotency
from api.services.lookup import owned
from api.services.principals import Principal
from api.store.database import UnitOfWork
from api.store.kinds import StatusRow, StatusRowT


@dataclass(frozen=True, slots=True)
class CreationRequest:
    """A request that creates a resource. `key` is its `Idempotency-Key`, None without one."""

    state: AppState
    request: Request
    key: str | None

    async def create(
        self,
        caller: Principal,
        table: type[StatusRowT],
        body: BaseModel | None,
        create: Callable[[UnitOfWork], StatusRowT],
    ) -> StatusRowT:
        """Run `create`, or return the row of `table` that an earlier request with this key created.

        Raises:
            ConflictError: the key came with another request before.
        """
        fingerprint = self.fingerprint(body)

        def use_case(uow: UnitOfWork) -> StatusRowT:
            if self.key is None:
                return create(uow)
            created_id = idempotency.find(uow, caller.project_id, self.key, fingerprint)
            if created_id is not None:
                return owned(uow.session, table, caller.project_id, created_id)
            row = create(uow)
            idempotency.store(uow, caller.project_id, self.key, row.id)
            return row

        return await self.state.run(use_case, caller)

    async def forget(self, caller: Principal, row: StatusRow) -> None:
        """Free the key of a request that was refused after its row was created."""
        key = self.key
        if key is not None:
            await self.state.run(lambda uow: idempotency.forget(uow, caller.project_id, key, row.id))

    def fingerprint(self, body: BaseModel | None) -> str:
        """Return a hash of method, path and body. Two requests with one key must have the same."""
        text = f"{self.request.method} {self.request.scope['path']}\n{body.model_dump_json() if body is not None else ''}"
        return hashlib.sha256(text.encode()).hexdigest()


async def get_creation(state: State, request: Request, key: IdempotencyKey) -> CreationRequest:
    return CreationRequest(state, request, key)


Creation = Annotated[CreationRequest, Depends(get_creation)]
