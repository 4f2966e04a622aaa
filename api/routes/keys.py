from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Response

from api.domain.errors import ConflictError
from api.http.auth import Admin
from api.http.deps import Pages, State
from api.routes.common import LOCATION, answers, errors, path_id, set_location, to_page
from api.routes.creation import Creation
from api.schemas.base import Page
from api.schemas.keys import Key, KeyCreate, KeyRotate, KeyWithSecret
from api.services import idempotency, keys
from api.store.database import UnitOfWork

router = APIRouter(prefix="/v1/keys", tags=["keys"])
KeyId = Annotated[str, path_id("The id of a key.", "key_8f3m1q")]


@router.post(
    "",
    operation_id="create_key",
    summary="Create an API key",
    status_code=201,
    responses={**answers(201, "The key, with its secret", LOCATION), **errors(404, 409, body=True)},
)
async def create_key(body: KeyCreate, caller: Admin, state: State, creation: Creation, response: Response) -> KeyWithSecret:
    """Create a key and show its secret. The secret is shown only now; the service keeps a keyed
    hash.

    A repeated `Idempotency-Key` is a 409 that names the key. With `node_id` the key belongs to a
    data owner. It can upload to that node's sandbox, run code there, read its status and logs, and
    nothing else.
    """
    expires_at = None if body.expires_in_s is None else datetime.now(UTC) + timedelta(seconds=body.expires_in_s)
    idempotency_key, fingerprint = creation.key, creation.fingerprint(body)

    def issue(uow: UnitOfWork) -> keys.IssuedKey:
        if idempotency_key is not None and (
            created_id := idempotency.find(uow, caller.project_id, idempotency_key, fingerprint)
        ):
            detail = f"This request has already created {created_id} and shown its secret. Rotate the key to get a new one."
            raise ConflictError("key_made_before", detail)
        spec = keys.KeySpec(body.name, body.scopes, body.node_id, expires_at)
        issued = keys.issue(uow.session, state.settings, caller, spec)
        if idempotency_key is not None:
            idempotency.store(uow, caller.project_id, idempotency_key, issued.id)
        return issued

    issued = await state.run(issue, caller)
    set_location(response, f"/v1/keys/{issued.row.id}")
    return KeyWithSecret.with_secret(issued.row, issued.secret)


@router.get("", operation_id="list_keys", summary="List the project's API keys", responses=errors())
async def list_keys(caller: Admin, state: State, page_request: Pages) -> Page[Key]:
    """Return the newest keys first, without secrets. Expired and revoked keys are included."""
    page = await state.run(lambda uow: keys.page(uow.session, caller.project_id, page_request))
    return to_page(page, Key.of)


@router.get("/{key_id}", operation_id="get_key", summary="Get an API key", responses=errors(404))
async def get_key(key_id: KeyId, caller: Admin, state: State) -> Key:
    """Return the key's scopes, last use and expiry. Its secret is not shown."""
    return Key.of(await state.run(lambda uow: keys.get(uow.session, caller.project_id, key_id)))


@router.delete("/{key_id}", operation_id="revoke_key", summary="Revoke an API key", responses=errors(404))
async def revoke_key(key_id: KeyId, caller: Admin, state: State) -> Key:
    """Revoke the key at once. It stays in the list. It is safe to repeat the call."""
    return Key.of(await state.run(lambda uow: keys.revoke(uow.session, caller.project_id, key_id), caller))


@router.post(
    "/{key_id}/rotate",
    operation_id="rotate_key",
    summary="Give an API key a new secret",
    responses=errors(404, 409, body=True),
)
async def rotate_key(
    key_id: KeyId, caller: Admin, state: State, body: Annotated[KeyRotate, Body()] = KeyRotate()
) -> KeyWithSecret:
    """Create a new secret. The name, the scopes and the expiry stay the same.

    The old secret stays valid for `overlap_s` seconds. The default is 0.
    """
    issued = await state.run(
        lambda uow: keys.rotate(uow.session, state.settings, caller.project_id, key_id, body.overlap_s, caller), caller
    )
    return KeyWithSecret.with_secret(issued.row, issued.secret)
