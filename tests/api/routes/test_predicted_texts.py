"""The texts of a prediction: in one answer, in pages, and many at once beside other requests."""

import threading
import time
from typing import Any

import httpx

from api.domain.specs import PredictionInput
from api.store import transitions
from api.store.tables import PredictionRow
from tests.api.routes.user import User

SINGLE = 0.6000000238418579
MANY = 300_000


def completed(user: User, texts: list[str], **figures: Any) -> str:
    cluster_id = user.ready()
    row = PredictionRow(
        id=f"pred_{cluster_id}",
        project_id=user.project_id,
        cluster_id=cluster_id,
        training_id=user.training(cluster_id),
        status="pending",
        aggregation="global",
        request=PredictionInput(),
        results={"predictions": [{"text": t, "sentiment": "positive", "confidence": SINGLE} for t in texts], **figures},
        seconds=1.0,
        nodes_used=2,
    )
    with user.rows.unit_of_work() as uow:
        transitions.created(uow.session, row)
        uow.session.flush()
        transitions.move(uow.session, row, "completed")
    return str(row.id)


def test_the_answer_has_every_text_and_figure(user: User) -> None:
    texts = ["a", 'b": 0.6000000238418579', '"predictions":[]', "ü\n}{", "\\"]
    prediction_id = completed(user, texts, accuracy=SINGLE, temperature=1.25, engines={"n": "torch"})
    body = user.call("GET", f"/v1/predictions/{prediction_id}", 200)
    results = body["results"]
    assert [item["text"] for item in results["predictions"]] == texts
    assert {item["confidence"] for item in results["predictions"]} == {0.6}
    assert (results["accuracy"], results["temperature"], results["precision"]) == (0.6, 1.25, None)
    assert (body["status"], body["nodes_used"], body["error"]) == ("completed", 2, None)


def test_pages_hold_the_texts_in_order(user: User) -> None:
    texts = [f"text {number}" for number in range(25)]
    path = f"/v1/predictions/{completed(user, texts)}/texts"
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = user.call("GET", path, 200, params={"limit": 10, **({"cursor": cursor} if cursor else {})})
        found += page["items"]
        cursor, pages = page["next_cursor"], pages + 1
    assert pages == 3
    assert [item["text"] for item in found] == texts
    assert found[0] == {"text": "text 0", "sentiment": "positive", "confidence": 0.6}
    assert user.call("GET", path, 200, params={"limit": 25})["next_cursor"] is None
    assert user.call("GET", path, 200, params={"cursor": 999_999}) == {"items": [], "next_cursor": None}
    for query in ({"cursor": "x"}, {"limit": 0}, {"limit": 10_001}, {"cursor": ""}):
        user.refused("GET", path, 422, params=query)


def test_a_pending_prediction_has_no_texts_yet(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    row = PredictionRow(
        id="pred_waits", project_id=user.project_id, cluster_id=cluster_id, training_id=training_id,
        status="pending", aggregation="global", request=PredictionInput(inputs=("a",)),
    )  # fmt: skip
    with user.rows.unit_of_work() as uow:
        transitions.created(uow.session, row)
    assert user.call("GET", "/v1/predictions/pred_waits", 200)["results"] is None
    assert user.refused("GET", "/v1/predictions/pred_waits/texts", 409)["code"] == "not_completed"


def test_a_large_answer_delays_no_other_request(user: User, url: str) -> None:
    path = f"{url}/v1/predictions/{completed(user, [f'{n}: ' + 'word ' * 12 for n in range(MANY)])}"
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(httpx.get(path, headers=user.http.headers, timeout=60)))
    client.start()
    longest = 0.0
    while client.is_alive():
        began = time.perf_counter()
        assert httpx.get(f"{url}/healthz").status_code == 200
        longest = max(longest, time.perf_counter() - began)
    client.join()
    (answer,) = answers
    assert answer.status_code == 200
    assert len(answer.content) > 30_000_000
    assert len(answer.json()["results"]["predictions"]) == MANY
    assert longest < 1.0, "client, server and this loop share one process"
