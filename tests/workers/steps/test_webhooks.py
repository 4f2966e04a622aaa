"""Steps deliver events at least once to a real receiver, and keep to the allowed networks."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, delete, func, select, update

from api.domain.errors import ConflictError
from api.domain.events import EventType
from api.domain.webhooks import SWITCH_OFF_AFTER
from api.services import webhooks
from api.store import events
from api.store.database import Database
from api.store.tables import EventRow, WebhookDeliveryRow, WebhookRow
from tests.api.store.rows import make_cluster, make_project
from tests.workers.steps.context import make_context
from tests.workers.steps.receiver import Receiver, receiving
from workers.context import Context
from workers.steps import retention
from workers.steps import webhooks as steps

LOOPBACK = "127.0.0.0/8"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    return make_context(database, tmp_path, webhook_networks=LOOPBACK, retention_events_days=30)


class Hook:
    """A project with a cluster and a webhook for its node events."""

    def __init__(self, context: Context, url: str, *types: str) -> None:
        self.context, self.database = context, context.database
        with self.database.unit_of_work() as uow:
            self.project_id = make_project(uow.session)
            self.cluster_id = make_cluster(uow.session, self.project_id).id
            spec = webhooks.WebhookSpec("h", url, types or ("node.*",))
            self.id = webhooks.create(uow.session, self.project_id, spec).id

    def emit(self, event_type: EventType = EventType.NODE_RUNNING) -> None:
        with self.database.unit_of_work() as uow:
            events.emit(uow.session, self.cluster_id, event_type, {"node_id": "node_1", "status": "running"})

    def step(self) -> None:
        """Do what the sweep and a step do."""
        with self.database.unit_of_work() as uow:
            steps.wake_due(uow)
        steps.advance(self.context, self.id)

    def make_due(self) -> None:
        with self.database.unit_of_work() as uow:
            uow.session.execute(
                update(WebhookDeliveryRow).where(WebhookDeliveryRow.status == "pending").values(due_at=func.clock_timestamp())
            )
            uow.session.execute(update(WebhookRow).values(due_at=func.clock_timestamp()))

    def deliveries(self) -> list[WebhookDeliveryRow]:
        with self.database.unit_of_work() as uow:
            query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == self.id)
            return list(uow.session.scalars(query.order_by(WebhookDeliveryRow.seq)))

    def row(self) -> WebhookRow:
        with self.database.unit_of_work() as uow:
            return uow.session.get_one(WebhookRow, self.id)


def test_an_event_of_the_wanted_types_is_delivered_once(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    hook.emit()
    hook.emit(EventType.CLUSTER_CONNECTED)
    hook.step()
    hook.step()
    (delivery,) = hook.deliveries()
    assert (delivery.status, delivery.status_code, delivery.attempts) == ("delivered", 204, 1)
    assert receiver.ids == [delivery.id]
    assert receiver.bodies[0]["type"] == "node.running"
    assert receiver.bodies[0]["cluster_id"] == hook.cluster_id


def test_another_project_gets_nothing(context: Context, receiver: Receiver) -> None:
    hook, other = Hook(context, receiver.url), Hook(context, receiver.url)
    other.emit()
    hook.step()
    assert hook.deliveries() == []
    assert receiver.heard == []


def test_a_receiver_that_fails_and_recovers_gets_the_same_id(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    receiver.answer = lambda: 500
    hook.emit()
    hook.step()
    (delivery,) = hook.deliveries()
    assert (delivery.status, delivery.error, delivery.status_code) == ("pending", "status", 500)
    assert hook.row().failing_since is not None
    receiver.answer = lambda: 200
    hook.make_due()
    hook.step()
    assert hook.deliveries()[0].status == "delivered"
    assert hook.row().failing_since is None
    assert receiver.ids == [delivery.id] * 2


def test_a_receiver_that_fails_is_tried_with_one_delivery_after_a_pause(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    receiver.answer = lambda: 500
    hook.emit()
    hook.step()
    for _ in range(3):
        hook.emit()
    hook.step()
    assert len(receiver.heard) == 1
    hook.make_due()
    hook.step()
    assert len(receiver.heard) == 2
    receiver.answer = lambda: 200
    hook.make_due()
    hook.step()
    hook.step()
    assert [delivery.status for delivery in hook.deliveries()] == ["delivered"] * 4


def test_old_deliveries_are_removed_with_their_events(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    hook.emit()
    hook.step()
    (delivery,) = hook.deliveries()
    long_ago = func.clock_timestamp() - timedelta(days=365)
    with context.database.unit_of_work() as uow:
        uow.session.execute(update(WebhookDeliveryRow).where(WebhookDeliveryRow.id == delivery.id).values(created_at=long_ago))
    retention.apply(context)
    assert hook.deliveries() == []


def test_a_removed_event_cannot_be_sent_again(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    hook.emit()
    hook.step()
    (delivery,) = hook.deliveries()
    with context.database.unit_of_work() as uow:
        uow.session.execute(delete(EventRow).where(EventRow.cluster_id == hook.cluster_id))
    with context.database.unit_of_work() as uow, pytest.raises(ConflictError, match="retention") as refusal:
        webhooks.redeliver(uow, hook.project_id, hook.id, delivery.id)
    assert refusal.value.code == "event_removed"


def test_a_redirect_is_not_followed(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    receiver.answer = lambda: 307
    hook.emit()
    hook.step()
    assert len(receiver.heard) == 1
    assert hook.deliveries()[0].error == "status"


def test_a_refused_address_is_not_reached(database: Database, tmp_path: Path, receiver: Receiver) -> None:
    hook = Hook(make_context(database, tmp_path), receiver.url)
    hook.emit()
    hook.step()
    assert hook.deliveries()[0].error == "refused"
    assert receiver.heard == []


def test_a_delivery_is_sent_again_with_its_id(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    hook.emit()
    hook.step()
    (delivery,) = hook.deliveries()
    with context.database.unit_of_work() as uow:
        webhooks.redeliver(uow, hook.project_id, hook.id, delivery.id)
    steps.advance(context, hook.id)
    assert receiver.ids == [delivery.id] * 2


def test_a_removed_event_ends_its_delivery(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    hook.emit()
    with context.database.unit_of_work() as uow:
        found = select(EventRow).where(EventRow.type == "node.running", EventRow.cluster_id == hook.cluster_id)
        uow.session.delete(uow.session.scalars(found).one())
    hook.step()
    assert (hook.deliveries()[0].status, hook.deliveries()[0].error) == ("failed", "event_removed")
    assert receiver.heard == []


def test_five_days_of_failures_switch_the_webhook_off(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    receiver.answer = lambda: 500
    hook.emit()
    with context.database.unit_of_work() as uow:
        webhook = uow.session.get_one(WebhookRow, hook.id)
        webhook.failing_since = func.clock_timestamp() - SWITCH_OFF_AFTER - timedelta(minutes=1)
    hook.step()
    assert not hook.row().enabled
    assert hook.row().disabled_at is not None
    assert hook.deliveries()[0].status == "failed"
    with context.database.unit_of_work() as uow:
        told = uow.session.scalars(select(EventRow).where(EventRow.type == "webhook.disabled")).all()
        assert [event.data["webhook_id"] for event in told] == [hook.id]


def test_a_failed_test_does_not_count(context: Context, receiver: Receiver) -> None:
    hook = Hook(context, receiver.url)
    receiver.answer = lambda: 500
    with context.database.unit_of_work() as uow:
        webhooks.send_test(uow, hook.project_id, hook.id)
    steps.advance(context, hook.id)
    assert receiver.bodies[0]["type"] == "webhook.test"
    assert hook.deliveries()[0].status == "failed"
    assert hook.row().failing_since is None


def _advance(url: str, folder: Path, webhook_id: str) -> None:
    """Run one step in a process of its own."""
    database = Database(create_engine(url), lambda _step, _row_id: None)
    steps.advance(make_context(database, folder, webhook_networks=LOOPBACK, lease_s=1.5), webhook_id)


def test_a_step_that_dies_is_repeated_with_the_same_id(
    context: Context, postgres_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    hook = Hook(context, receiver.url)
    hook.emit()
    with context.database.unit_of_work() as uow:
        steps.wake_due(uow)
    process = multiprocessing.get_context("spawn").Process(target=_advance, args=(postgres_url, tmp_path, hook.id))

    def kill() -> int:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        return 200

    receiver.answer = kill
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert hook.deliveries()[0].status == "pending"
    receiver.answer = lambda: 200
    end = time.monotonic() + 30
    while hook.deliveries()[0].status == "pending" and time.monotonic() < end:
        hook.step()
        time.sleep(0.2)
    (delivery,) = hook.deliveries()
    assert delivery.status == "delivered"
    assert receiver.ids == [delivery.id] * 2
