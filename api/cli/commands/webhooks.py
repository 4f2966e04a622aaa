"""`flow-nexus webhooks`."""

from typing import Annotated

import typer

from api.cli.http.answer import Answer
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import views
from api.cli.parameters import Limit, Wait
from api.cli.responses import DeliveryJson, JsonObject, WebhookJson
from api.cli.session import Session, given, group, with_session

app = group("Webhooks: send the project's events to an address.")

WebhookId = Annotated[str, id_option("--webhook-id", "webhook", "hook_8f3m1q")]
DeliveryId = Annotated[str, id_option("--delivery-id", "delivery", "msg_8f3m1q")]
Address = Annotated[str, typer.Option("--address", help="The https address that gets the events.", metavar="URL")]
NewAddress = Annotated[str | None, typer.Option("--address", help="Another https address.", metavar="URL")]
_WAIT_S = 20
Events = Annotated[str, typer.Option(help="Types of events, or groups such as `round.*`.", metavar="A,B")]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


@app.command("create")
@with_session
def create(
    session: Session,
    address: Address,
    events: Events,
    name: Annotated[str, typer.Option(help="The purpose of the webhook.")] = "webhook",
) -> None:
    """Create a webhook and print it with its secret, which is shown only now."""
    body = given(name=name, url=address, event_types=_names(events))
    session.show(session.client.post(api_path("webhooks"), JsonObject, body), views.mapping)


@app.command("list")
@with_session
def list_webhooks(session: Session, limit: Limit = None) -> None:
    """List the webhooks of the project."""
    session.show(session.client.items(api_path("webhooks"), WebhookJson, limit=limit), views.webhooks)


@app.command("status")
@with_session
def show_status(session: Session, webhook_id: WebhookId) -> None:
    """Show one webhook."""
    session.show(session.client.get(api_path("webhooks", webhook_id), JsonObject), views.mapping)


@app.command("update")
@with_session
def update(
    session: Session,
    webhook_id: WebhookId,
    address: NewAddress = None,
    events: Annotated[str | None, typer.Option(help="Other types of events.", metavar="A,B")] = None,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Switch it on or off.")] = None,
) -> None:
    """Change a webhook."""
    body = given(name=name, url=address, event_types=_names(events), enabled=enabled)
    session.show(session.client.patch(api_path("webhooks", webhook_id), JsonObject, body), views.mapping)


@app.command("delete")
@with_session
def delete(session: Session, webhook_id: WebhookId) -> None:
    """Delete a webhook with its deliveries."""
    answer = session.client.delete(api_path("webhooks", webhook_id), JsonObject)
    session.show(answer or Answer({"webhook_id": webhook_id, "status": "deleted"}, JsonObject), views.mapping)


@app.command("test")
@with_session
def send_test(session: Session, webhook_id: WebhookId, wait: Wait = _WAIT_S) -> None:
    """Send a test message once, and wait for its result."""
    session.show(session.client.post(api_path("webhooks", webhook_id, "test"), JsonObject, wait=wait), views.mapping)


@app.command("deliveries")
@with_session
def deliveries(session: Session, webhook_id: WebhookId, limit: Limit = None) -> None:
    """List the deliveries of a webhook."""
    items = session.client.items(api_path("webhooks", webhook_id, "deliveries"), DeliveryJson, limit=limit)
    session.show(items, views.deliveries)


@app.command("redeliver")
@with_session
def redeliver(session: Session, webhook_id: WebhookId, delivery_id: DeliveryId, wait: Wait = 0) -> None:
    """Send a delivery again, under the same `webhook-id`."""
    path = api_path("webhooks", webhook_id, "deliveries", delivery_id, "redeliver")
    session.show(session.client.post(path, JsonObject, wait=wait), views.mapping)
