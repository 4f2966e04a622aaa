from typing import Annotated

from fastapi import APIRouter, Response

from api.domain.errors import WorkFailedError
from api.domain.webhooks import secret_of
from api.http.auth import Admin
from api.http.deps import Pages, State
from api.routes.common import LOCATION, answers, errors, held, path_id, set_location, to_page
from api.routes.creation import Creation
from api.routes.waiting import Waiting
from api.runtime.webhook_sender import check_url
from api.schemas.base import Page
from api.schemas.webhooks import Webhook, WebhookCreate, WebhookDelivery, WebhookUpdate
from api.services import idempotency, webhooks
from api.services.principals import Principal
from api.store.database import UnitOfWork
from api.store.tables import WebhookDeliveryRow, WebhookRow

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
WebhookId = Annotated[str, path_id("The id of a webhook.", "hook_8f3m1q")]
DeliveryId = Annotated[str, path_id("The id of a delivery.", "msg_8f3m1q")]


@router.post(
    "",
    operation_id="create_webhook",
    summary="Create a webhook",
    status_code=201,
    responses={**answers(201, "The webhook, with its secret", LOCATION), **errors(409, body=True)},
)
async def create_webhook(body: WebhookCreate, caller: Admin, state: State, creation: Creation, response: Response) -> Webhook:
    """Send the project's events of these types to an address, signed as Standard Webhooks."""
    await check_url(body.url, state.settings.webhook_networks)
    key, fingerprint = creation.key, creation.fingerprint(body)
    spec = webhooks.WebhookSpec(body.name, body.url, body.event_types)

    def create(uow: UnitOfWork) -> WebhookRow:
        created_id = idempotency.find(uow, caller.project_id, key, fingerprint) if key is not None else None
        if created_id is not None:
            return webhooks.get(uow.session, caller.project_id, created_id)
        row = webhooks.create(uow.session, caller.project_id, spec)
        if key is not None:
            idempotency.store(uow, caller.project_id, key, row.id)
        return row

    row = await state.run(create, caller)
    set_location(response, f"/v1/webhooks/{row.id}")
    return Webhook.of(row, secret_of(state.settings.secret_key.get_secret_value(), row.id))


@router.get("", operation_id="list_webhooks", summary="List the project's webhooks", responses=errors())
async def list_webhooks(caller: Admin, state: State, page_request: Pages) -> Page[Webhook]:
    """Return the newest webhooks first."""
    page = await state.run(lambda uow: webhooks.page(uow.session, caller.project_id, page_request))
    return to_page(page, Webhook.of)


@router.get("/{webhook_id}", operation_id="get_webhook", summary="Get a webhook", responses=errors(404))
async def get_webhook(webhook_id: WebhookId, caller: Admin, state: State) -> Webhook:
    """Return the webhook without its secret."""
    return Webhook.of(await state.run(lambda uow: webhooks.get(uow.session, caller.project_id, webhook_id)))


@router.patch("/{webhook_id}", operation_id="update_webhook", summary="Change a webhook", responses=errors(404, body=True))
async def update_webhook(webhook_id: WebhookId, body: WebhookUpdate, caller: Admin, state: State) -> Webhook:
    """Change the fields that the body has. Switching it off ends its waiting deliveries."""
    if body.url is not None:
        await check_url(body.url, state.settings.webhook_networks)
    changes = body.changes()
    row = await state.run(lambda uow: webhooks.change(uow.session, caller.project_id, webhook_id, changes), caller)
    return Webhook.of(row)


@router.delete(
    "/{webhook_id}", operation_id="delete_webhook", summary="Delete a webhook", status_code=204, responses=errors(404)
)
async def delete_webhook(webhook_id: WebhookId, caller: Admin, state: State) -> None:
    """Delete the webhook with its deliveries."""
    await state.run(lambda uow: webhooks.delete(uow.session, caller.project_id, webhook_id), caller)


@router.post(
    "/{webhook_id}/test",
    operation_id="test_webhook",
    summary="Send a test message",
    status_code=202,
    responses={**held(WebhookDelivery, "The delivery"), **errors(404, 409, 502)},
)
async def test_webhook(webhook_id: WebhookId, caller: Admin, state: State, waiting: Waiting) -> WebhookDelivery:
    """Send `{"type": "webhook.test"}` once. `Prefer: wait=20` answers with the result."""
    row = await state.run(lambda uow: webhooks.send_test(uow, caller.project_id, webhook_id), caller)
    return await _sent(waiting, caller, row)


@router.get(
    "/{webhook_id}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="List the deliveries of a webhook",
    responses=errors(404),
)
async def list_webhook_deliveries(
    webhook_id: WebhookId, caller: Admin, state: State, page_request: Pages
) -> Page[WebhookDelivery]:
    """Return the newest deliveries first."""
    page = await state.run(lambda uow: webhooks.deliveries(uow.session, caller.project_id, webhook_id, page_request))
    return to_page(page, WebhookDelivery.of)


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}",
    operation_id="get_webhook_delivery",
    summary="Get a delivery",
    responses=errors(404),
)
async def get_webhook_delivery(webhook_id: WebhookId, delivery_id: DeliveryId, caller: Admin, state: State) -> WebhookDelivery:
    """Return the event's delivery with the result of its last attempt."""
    row = await state.run(lambda uow: webhooks.delivery(uow.session, caller.project_id, webhook_id, delivery_id))
    return WebhookDelivery.of(row)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    operation_id="redeliver_webhook_delivery",
    summary="Send a delivery again",
    status_code=202,
    responses={**held(WebhookDelivery, "The delivery"), **errors(404, 409, 502)},
)
async def redeliver_webhook_delivery(
    webhook_id: WebhookId, delivery_id: DeliveryId, caller: Admin, state: State, waiting: Waiting
) -> WebhookDelivery:
    """Send the event again under the same `webhook-id`."""
    row = await state.run(lambda uow: webhooks.redeliver(uow, caller.project_id, webhook_id, delivery_id), caller)
    return await _sent(waiting, caller, row)


async def _sent(waiting: Waiting, caller: Principal, row: WebhookDeliveryRow) -> WebhookDelivery:
    """Return the delivery after the time that the client waits.

    Raises:
        WorkFailedError: the client waited, and the receiver did not take the message.
    """
    row = await waiting.wait_until_sent(caller, row)
    path = f"/v1/webhooks/{row.webhook_id}/deliveries/{row.id}"
    if waiting.wait_s and row.status == "failed":
        cause = f"status {row.status_code}" if row.error == "status" else row.error
        message = f"The receiver did not take the message ({cause})."
        raise WorkFailedError("delivery_failed", message, headers={"Location": path}, members={"delivery_id": row.id})
    waiting.set_location(path)
    return WebhookDelivery.of(row)
