from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response

from api.domain.errors import ConflictError
from api.http.auth import Admin
from api.http.deps import IdempotencyKey, Pages, State
from api.routes.common import LOCATION, answers, errors, fingerprint, set_location
from api.schemas.base import Page
from api.schemas.keys import Key, KeyCreate, KeyRotate, NewKey
from api.services import idempotency, keys
from api.store.database import UnitOfWork

router = APIRouter(prefix="/v1/keys", tags=["keys"])
KeyId = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", examples=["key_8f3m1q"])]


@router.post(
    "",
    operation_id="create_key",
    summary="Make an API key",
    status_code=201,
    responses={**answers(201, "The key, with its secret", LOCATION), **errors(404, 409, body=True)},
)
async def create_key(
    body: KeyCreate, caller: Admin, state: State, key: IdempotencyKey, request: Request, response: Response
) -> NewKey:
    """The secret is shown this once, and kept as a keyed hash; a repeated Idempotency-Key is a 409 that names the key. With
    `node_id` it is a data owner's key: for uploading to that node's sandbox, working in it, watching it, and nothing else."""
    expires_at = None if body.expires_in_s is None else datetime.now(UTC) + timedelta(seconds=body.expires_in_s)
    asked = fingerprint(request, body)

    def issue(uow: UnitOfWork) -> keys.IssuedKey:
        if key is not None and (found := idempotency.find(uow, caller.project_id, key, asked)):
            raise ConflictError("key_made_before", f"This request has made {found}; its secret was shown then. Rotate it.")
        made = keys.issue(
            uow.session,
            state.settings,
            caller,
            name=body.name,
            wanted=body.scopes,
            node_id=body.node_id,
            expires_at=expires_at,
        )
        if key is not None:
            idempotency.store(uow, caller.project_id, key, made.id)
        return made

    made = await state.work(issue, caller)
    set_location(response, f"/v1/keys/{made.row.id}")
    return NewKey.made(made.row, made.secret)


@router.get("", operation_id="list_keys", summary="List the project's API keys", responses=errors())
async def list_keys(caller: Admin, state: State, paging: Pages) -> Page[Key]:
    """Newest first, expired and revoked ones included; no secrets."""
    page = await state.work(lambda uow: keys.page(uow.session, caller.project_id, paging.limit, paging.after))
    return Page(items=[Key.of(row) for row in page.items], next_cursor=page.next.encode() if page.next else None)


@router.get("/{key_id}", operation_id="get_key", summary="Get an API key", responses=errors(404))
async def get_key(key_id: KeyId, caller: Admin, state: State) -> Key:
    """What it may do, when it was last used and until when it opens; not its secret."""
    return Key.of(await state.work(lambda uow: keys.get(uow.session, caller.project_id, key_id)))


@router.delete("/{key_id}", operation_id="revoke_key", summary="Revoke an API key", responses=errors(404))
async def revoke_key(key_id: KeyId, caller: Admin, state: State) -> Key:
    """It opens nothing from now on; it stays listed. Safe to ask twice."""
    return Key.of(await state.work(lambda uow: keys.revoke(uow.session, caller.project_id, key_id), caller))


@router.post(
    "/{key_id}/rotate",
    operation_id="rotate_key",
    summary="Give an API key a new secret",
    responses=errors(404, 409, body=True),
)
async def rotate_key(key_id: KeyId, caller: Admin, state: State, body: Annotated[KeyRotate, Body()] = KeyRotate()) -> NewKey:
    """Its name, scopes and expiry stay. The secret of before opens for `overlap_s` seconds more, by default not at all."""
    made = await state.work(
        lambda uow: keys.rotate(uow.session, state.settings, caller.project_id, key_id, body.overlap_s, caller), caller
    )
    return NewKey.made(made.row, made.secret)
