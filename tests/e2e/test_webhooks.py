"""The running stack sends events, and the library of Standard Webhooks verifies them."""

import time

import pytest
from standardwebhooks.webhooks import Webhook

from tests.e2e.walk import Walk
from tests.workers.steps.receiver import receiving


def test_events_arrive_signed(walk: Walk) -> None:
    with receiving() as receiver:
        hook = walk.call(
            "POST", "/v1/webhooks", json={"name": "h", "url": receiver.url, "event_types": ["cluster.*"]}, status=201
        )
        path = f"/v1/webhooks/{hook['webhook_id']}"
        told = walk.http.post(f"{path}/test", headers={"Prefer": "wait=30"})
        assert (told.status_code, told.json()["status"]) == (200, "delivered")
        receiver.answer = lambda: 500
        refused = walk.http.post(f"{path}/test", headers={"Prefer": "wait=30"})
        assert (refused.status_code, refused.json()["code"]) == (502, "delivery_failed")
        assert walk.call("GET", refused.headers["location"])["status_code"] == 500
        receiver.answer = lambda: 204
        receiver.heard.clear()
        cluster_id = walk.create()
        end = time.monotonic() + 60
        while not receiver.heard and time.monotonic() < end:
            time.sleep(0.2)
        headers, body = receiver.heard[0]
        event = Webhook(hook["secret"]).verify(body, headers)
        assert (event["type"], event["cluster_id"]) == ("cluster.initializing", cluster_id)
        delivery = walk.call("GET", f"{path}/deliveries")["items"][0]
        assert delivery["delivery_id"] == headers["webhook-id"]
        assert walk.http.delete(path).status_code == 204
    walk.terminate(cluster_id)
    with pytest.raises(Exception, match="signature"):
        Webhook(hook["secret"]).verify(body + b" ", headers)
