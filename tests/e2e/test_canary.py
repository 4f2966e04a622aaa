"""Marked sentences stay where they were uploaded.

The test searches everything that the whole stack stores and answers.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from api.embedded.stack import EmbeddedStack
from tests.canary import SENTENCE, Canary, marked
from tests.e2e.walk import Walk, samples
from tests.otlp_receiver import Receiver

pytestmark = pytest.mark.timeout(300)
PLANTED = "brimtassel planted by the test itself"


class RecordingWalk(Walk):
    """A user that records every answer, downloads included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.answers: list[tuple[str, bytes]] = []
        self.http.event_hooks = {"response": [self._record]}

    def _record(self, response: httpx.Response) -> None:
        response.read()
        headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items()).encode()
        self.answers.append((f"{response.request.method} {response.request.url.path}", headers + b"\n" + response.content))


def settings_of(stack: EmbeddedStack) -> dict[str, str]:
    lines = (stack.folder.path / "operator.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.removeprefix("export ").strip(): value.strip().strip("'\"") for name, _, value in pairs}


def rows(engine: Engine) -> Iterator[tuple[str, bytes]]:
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            for (row,) in connection.execute(text(f'SELECT "{table}"::text FROM "{table}"')):
                yield f"table {table}", row.encode()


def keys(redis: Redis) -> Iterator[tuple[str, bytes]]:
    value: Any
    for key in redis.scan_iter():
        match redis.type(key):
            case b"string":
                value = [redis.get(key)]
            case b"list":
                value = redis.lrange(key, 0, -1)
            case b"set":
                value = list(redis.smembers(key))
            case b"zset":
                value = redis.zrange(key, 0, -1)
            case b"hash":
                value = [part for pair in redis.hgetall(key).items() for part in pair]
            case _:
                value = redis.xrange(key)
        yield f"redis {key.decode(errors='replace')}", key + b"\n" + repr(value).encode()


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield all files of a stack's home: logs, the database's files, models, sandboxes."""
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(folder)), path.read_bytes()
        except FileNotFoundError:
            continue


def unpacked(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                yield f"export {member.name}", file.read()


def sandbox_of(where: str) -> str:
    return where.split("/root/")[0]


def test_marked_sentences_are_found_nowhere_but_in_their_workers_data(stack: EmbeddedStack, collector: Receiver) -> None:
    walk, canary = RecordingWalk(stack.url, stack.api_key), Canary()
    cluster_id = walk.create(wasm_optimization=True)
    workers = [str(walk.deploy(cluster_id, data_owner=True)["node_id"]) for _ in range(3)]
    aggregator = str(walk.deploy(cluster_id, "parameter_server")["node_id"])
    for node_id in (*workers, aggregator):
        walk.running(node_id)
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={})
    owners = []
    for number, node_id in enumerate(workers):
        key = walk.call("POST", "/v1/keys", status=201, json={"name": f"owner {number}", "node_id": node_id})
        owner = RecordingWalk(stack.url, key["api_key"])
        owner.upload(node_id, "/data/train_1.json", marked(samples(60, number * 1000)), status=201)
        owners.append(owner)
    owners[0].upload(
        workers[0], "/data/broken.json", b'{"text": "fine", "sentiment": "positive"}\n{"text": "' + SENTENCE.encode()
    )
    owners[0].upload(workers[0], f"/data/{SENTENCE.replace(' ', '_')[:5]}.txt", SENTENCE.encode())
    walk.upload(aggregator, "/data/test.json", samples(20, 95_000), status=201)
    assert walk.train(cluster_id, status=422, dataset="/data/broken.json")["code"]
    protected: dict[str, Any] = {"secure_aggregation": True, "differential_privacy": {"noise_multiplier": 1.0}}
    wait = {"Prefer": "wait=60"}
    for fields in ({}, protected):
        training_id = walk.train(cluster_id, epochs=1, **fields)["training_id"]
        walk.until(cluster_id, "completed")
        body = {"input_data": "/data/test.json", "aggregation": "ensemble"}
        assert walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", headers=wait, json=body)["status"] == "completed"
    model = walk.call("POST", f"/v1/trainings/{training_id}/exports", headers=wait, json={"name": "canary"})
    assert model["status"] == "completed", model
    archive = walk.http.get(f"/v1/models/{model['model_id']}/download").content
    walk.http.get(f"/v1/sandboxes/{aggregator}/files", params={"path": "/export/canary"})
    for node_id in workers:
        shard = {"path": "/data/train_1.json"}
        assert walk.call("GET", f"/v1/sandboxes/{node_id}/files", status=403, params=shard)["code"] == "owner_only"
        assert walk.call("POST", f"/v1/sandboxes/{node_id}/execute", status=403, json={"code": "1"})["code"] == "owner_only"
    for path in (
        *(f"/v1/sandboxes/{node_id}" for node_id in (*workers, aggregator)),
        *(f"/v1/sandboxes/{node_id}/logs?lines=1000" for node_id in (*workers, aggregator)),
        *(f"/v1/nodes/{node_id}" for node_id in workers),
        f"/v1/clusters/{cluster_id}/status",
        f"/v1/clusters/{cluster_id}/events?follow=false",
        f"/v1/trainings/{training_id}",
        f"/v1/trainings/{training_id}/rounds",
        "/v1/audit?limit=100",
        "/metrics",
    ):
        assert walk.http.get(path).status_code == 200
    for owner, node_id in zip(owners, workers, strict=True):
        assert owner.call("GET", f"/v1/sandboxes/{node_id}/logs", params={"lines": 1000})["lines"]

    settings = settings_of(stack)
    engine = create_engine(settings["FLOW_NEXUS_DATABASE_URL"])
    redis = Redis.from_url(settings["FLOW_NEXUS_REDIS_URL"])
    try:
        plant(stack, engine, redis)
        planted = {where.split()[0] for where, content in (*rows(engine), *keys(redis)) if canary.found_in(content)}
        assert planted == {"table", "redis"}, "the search finds the text planted in a row and in a key"
        logs = [where for where, content in files(stack.folder.path / "logs") if canary.found_in(content)]
        assert logs == ["planted.log"], "the search finds the text planted in a log"
    finally:
        remove_planted(stack, engine, redis)

    left = [(where, found) for where, content in rows(engine) if (found := canary.found_in(content))]
    left += [(where, found) for where, content in keys(redis) if (found := canary.found_in(content))]
    left += [(where, found) for where, content in unpacked(archive) if (found := canary.found_in(content))]
    left += [("trace", found) for body in [*collector.bodies] if (found := canary.found_in(body))]
    assert len(collector.spans) > 40
    answers = [answer for user in (walk, *owners) for answer in user.answers]
    left += [(where, found) for where, content in answers if (found := canary.found_in(content))]
    assert not left
    assert len(answers) > 40
    places = {where for where, content in files(stack.folder.path) if canary.found_in(content) and not was_planted(content)}
    at_home = {where for where in places if "/data/" in where and where.startswith("sandboxes")}
    # A worker keeps its shard as token ids too, beside the data and nowhere else.
    encoded = {where for where in places if "/root/model/.encoded/" in where}
    assert {sandbox_of(where) for where in encoded} <= {sandbox_of(where) for where in at_home}
    assert places == at_home | encoded, f"marked sentences lie in {sorted(places - at_home - encoded)}"
    assert len(at_home) >= 5, "the search finds them where they were uploaded"
    assert not [where for where in at_home if aggregator in where]
    walk.terminate(cluster_id)
    engine.dispose()


def test_failures_of_every_kind_leave_no_text_in_a_log(stack: EmbeddedStack) -> None:
    """A text or a label is refused by an agent, by a step, by the API and by the database."""
    walk, canary = RecordingWalk(stack.url, stack.api_key), Canary()
    cluster_id = walk.create(architecture="cnn")
    workers = [str(walk.deploy(cluster_id)["node_id"]) for _ in range(2)]
    aggregator = str(walk.deploy(cluster_id, "parameter_server")["node_id"])
    for node_id in (*workers, aggregator):
        walk.running(node_id)
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={})
    odd_label = [{"text": "fine", "sentiment": f"{SENTENCE}\x00{number % 2}"} for number in range(20)]
    for content in (b'[{"text": "' + SENTENCE.encode(), [{"text": 1, "sentiment": SENTENCE}], odd_label[:1]):
        for node_id in workers:
            walk.upload(node_id, "/data/train_bad.json", content)
        assert walk.train(cluster_id, status=422, dataset="/data/train_bad.json")["code"]
    for number, node_id in enumerate(workers):
        walk.upload(node_id, "/data/train_1.json", marked(samples(60, number * 1000)), status=201)
    walk.train(cluster_id, epochs=1)
    assert walk.until(cluster_id, "completed")["status"] == "completed"
    path, wait = f"/v1/clusters/{cluster_id}/predictions", {"Prefer": "wait=60"}
    walk.upload(aggregator, "/data/test.json", [{"text": f"{SENTENCE} \x00 and \ud800"}])
    answer = walk.call("POST", path, status=200, json={"input_data": "/data/test.json"}, headers=wait)
    assert answer["results"]["predictions"][0]["text"] == f"{SENTENCE} \ufffd and \ufffd"
    assert len(answer["input_sha256"]) == 64
    walk.upload(aggregator, "/data/test.json", b'{"text": "' + SENTENCE.encode())
    refused = walk.http.post(path, json={"input_data": "/data/test.json"}, headers=wait)
    assert (refused.status_code, refused.json()["code"]) == (422, "unreadable_json")
    assert f"/data/test.json in the aggregator {aggregator} (sandbox " in refused.json()["detail"]
    assert walk.http.post(path, json={"inputs": [SENTENCE + "\x00"]}).status_code == 422
    engine = create_engine(settings_of(stack)["FLOW_NEXUS_DATABASE_URL"])
    for statement in ("SELECT CAST(:value AS integer)", "SELECT CAST(:value AS jsonb)"):
        with pytest.raises(DBAPIError), engine.begin() as connection:
            connection.execute(text(statement), {"value": SENTENCE})
    engine.dispose()

    logs = list(files(stack.folder.path / "logs"))
    assert {"postgres.log", "worker.log", "api.log"} <= {where for where, _ in logs}
    logs += [(node_id, walk.http.get(f"/v1/sandboxes/{node_id}/logs?lines=1000").content) for node_id in (*workers, aggregator)]
    assert not [where for where, content in logs if canary.found_in(content)]
    walk.terminate(cluster_id)


def plant(stack: EmbeddedStack, engine: Engine, redis: Redis) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE planted (word text)"))
        connection.execute(text("INSERT INTO planted VALUES (:word)"), {"word": PLANTED})
    redis.set("planted", PLANTED)
    (stack.folder.path / "logs" / "planted.log").write_text(PLANTED)


def remove_planted(stack: EmbeddedStack, engine: Engine, redis: Redis) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS planted"))
    redis.delete("planted")
    (stack.folder.path / "logs" / "planted.log").unlink(missing_ok=True)


def was_planted(content: bytes) -> bool:
    """Return whether this is the planted text. The database's files hold it even after the drop."""
    return PLANTED.encode() in content and SENTENCE.encode() not in content
