"""Modules of the dashboard without a page: the parser of events, curves, forms, curl lines."""

from typing import Any

import pytest

from tests.browser.conftest import OpenPage


@pytest.fixture
def page(url: str, open_page: OpenPage) -> Any:
    return open_page(f"{url}/dashboard/")


def test_events_arrive_whole_however_the_stream_is_cut(page: Any) -> None:
    """The text has a comment, two events and a character of three bytes."""
    text = ': still here\n\nid: 7\nevent: a\ndata: {"x":"€: 1"}\n\nid: 8\nevent: b\ndata: {}\n\nid: 9\nevent: c'
    found = page.evaluate(
        """async (text) => {
          const { parse } = await import("/dashboard/lib/api.js");
          const bytes = new TextEncoder().encode(text);
          const answers = new Set();
          for (let size = 1; size <= bytes.length; size += 1) {
            const stream = new ReadableStream({
              start(controller) {
                for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
                controller.close();
              },
            });
            const events = [];
            for await (const event of parse(stream)) events.push(event);
            answers.add(JSON.stringify(events));
          }
          return [...answers].map((one) => JSON.parse(one));
        }""",
        text,
    )
    assert found == [[{"id": 7, "type": "a", "data": {"x": "€: 1"}}, {"id": 8, "type": "b", "data": {}}]]


def test_a_worker_that_joins_late_has_no_earlier_figures(page: Any) -> None:
    worker = {"local_loss": [0.5], "local_accuracy": [0.6], "train_seconds": [1]}
    first = {"rounds": [1], "global_loss": [0.7], "workers": {"w1": worker}, "next_after": None}
    second = {"rounds": [2], "global_loss": [0.6], "workers": {"w1": worker, "w2": worker}, "next_after": None}
    merged = page.evaluate(
        """async ([first, second]) => (await import("/dashboard/lib/curves.js")).merge(first, second)""", [first, second]
    )
    assert merged["rounds"] == [1, 2]
    assert merged["global_loss"] == [0.7, 0.6]
    assert merged["workers"]["w1"]["local_loss"] == [0.5, 0.5]
    assert merged["workers"]["w2"]["local_loss"] == [None, 0.5]


def test_a_body_has_what_was_entered_and_no_default(page: Any) -> None:
    entered = {
        "dataset": "/data/x.json",
        "epochs": "3",
        "batch_size": "32",
        "optimizer": "sgd",
        "seed": "",
        "label_names": '["no", "yes"]',
        "differential_privacy": {"target_epsilon": "8"},
    }
    body = page.evaluate(
        """async (entered) => {
          const { bodyFrom } = await import("/dashboard/lib/form.js");
          const { bodyOf } = await import("/dashboard/lib/schema.js");
          return bodyFrom((await bodyOf("start_training")).fields, entered);
        }""",
        {**entered, "batch_size": "64"},
    )
    assert body == {
        "dataset": "/data/x.json",
        "epochs": 3,
        "batch_size": 64,
        "optimizer": "sgd",
        "label_names": ["no", "yes"],
        "differential_privacy": {"target_epsilon": 8},
    }


def test_the_curl_line_quotes_and_names_no_key(page: Any) -> None:
    line = page.evaluate(
        """async () => {
          const { curl, signIn } = await import("/dashboard/lib/api.js");
          signIn("fnx_secret");
          return curl("/v1/clusters", { method: "POST", body: { name: "it's" } });
        }"""
    )
    assert "fnx_secret" not in line
    assert "'{\"name\":\"it'\\''s\"}'" in line
