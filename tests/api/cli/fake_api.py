"""Run the command in this process, against a small HTTP server with the answers of the API.

The server stores each request.
"""

import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from api.cli.main import main

KEY = "fnx_key-of-the-tests"
CREATED = "2025-11-02T14:30:00Z"
CLUSTER = {
    "cluster_id": "cls_1",
    "name": "n",
    "topology": "mesh",
    "status": "initializing",
    "created_at": CREATED,
    "config": {},
}
NODE = {
    "node_id": "node_1",
    "cluster_id": "cls_1",
    "sandbox_id": "sbx_1",
    "status": "running",
    "role": "worker",
    "capabilities": ["training"],
    "autonomy_level": 0.8,
    "resources": {"cpu_cores": 2, "memory_gb": 1.5, "gpu": None},
}
TRAINING = {
    "training_id": "train_1",
    "cluster_id": "cls_1",
    "status": "training",
    "config": {"epochs": 50},
    "workers": ["node_1"],
    "aggregator": "node_2",
}
METRICS = dict.fromkeys(("global_loss", "global_accuracy", "validation_accuracy", "convergence_rate"))
SESSION = {
    "training_id": "train_1",
    "status": "training",
    "epoch": 10,
    "total_epochs": 50,
    "metrics": {**METRICS, "global_loss": 0.42},
    "workers": {"node_1": {"local_loss": 0.39, "samples": 2500}},
    "time_elapsed": "8m 30s",
    "estimated_completion": "12m 15s",
    "error": None,
}
PREDICTION = {
    "prediction_id": "pred_1",
    "cluster_id": "cls_1",
    "status": "completed",
    "aggregation": "ensemble",
    "results": {"accuracy": 0.92, "predictions": [{"text": "Great product!", "sentiment": "positive", "confidence": 0.97}]},
    "inference_time": "1.2s",
    "nodes_used": 4,
}
SANDBOX = {"sandbox_id": "sbx_1", "status": "running", "node_id": "node_1", "template": "python", "started_at": CREATED}
MODEL = {"model_id": "mdl_1", "name": "m", "status": "completed", "training_id": "train_1", "path": "/export/m"}
SEARCH = {
    "search_id": "search_1",
    "cluster_id": "cls_1",
    "status": "running",
    "method": "grid",
    "space": {"learning_rate": [0.001, 0.0003]},
    "metric": "validation_accuracy",
    "early_stopping": "median",
    "trials": [
        {
            "options": {"learning_rate": 0.001},
            "training_id": "train_1",
            "status": "stopped",
            "metric": 0.75,
            "epochs": 3,
            "stop_reason": {"code": "early_stopped", "detail": "Its best is below the median."},
            "error": None,
        },
        {
            "options": {"learning_rate": 0.0003},
            "training_id": None,
            "status": "waiting",
            "metric": None,
            "epochs": 0,
            "stop_reason": None,
            "error": None,
        },
    ],
    "best_training_id": "train_1",
    "best_options": {"learning_rate": 0.001},
    "best_metric": 0.75,
    "cost_usd": 0.42,
    "stop_reason": None,
    "error": None,
    "created_at": CREATED,
}
EXECUTION = {
    "execution_id": "exec_1",
    "sandbox_id": "sbx_1",
    "status": "completed",
    "exit_code": 0,
    "limit": None,
    "stdout": "42\n",
    "stderr": "",
    "stdout_bytes": 3,
    "stderr_bytes": 0,
    "created_at": CREATED,
    "started_at": CREATED,
    "ended_at": CREATED,
    "error": None,
}
ANSWERS: dict[str, Any] = {
    "POST /v1/clusters": CLUSTER,
    "GET /v1/clusters": {"items": [CLUSTER], "next_cursor": None},
    "GET /v1/clusters/cls_1/status": {"cluster_id": "cls_1", "status": "training", "training_sessions": [SESSION]},
    "POST /v1/clusters/cls_1/nodes": NODE,
    "GET /v1/clusters/cls_1/nodes": {"items": [NODE], "next_cursor": None},
    "DELETE /v1/nodes/node_1": {**NODE, "status": "terminated"},
    "POST /v1/clusters/cls_1/connect": {
        "cluster_id": "cls_1",
        "topology": "mesh",
        "connections": [{"from": "node_1", "to": "all"}],
        "status": "connected",
    },
    "POST /v1/clusters/cls_1/terminate": {**CLUSTER, "status": "terminated"},
    "POST /v1/clusters/cls_1/trainings": TRAINING,
    "GET /v1/trainings": {"items": [TRAINING], "next_cursor": None},
    "GET /v1/trainings/train_1": TRAINING,
    "GET /v1/trainings/train_1/rounds": {"items": [], "next_cursor": None},
    "POST /v1/trainings/train_1/stop": {**TRAINING, "status": "stopping"},
    "POST /v1/trainings/train_1/resume": TRAINING,
    "POST /v1/clusters/cls_1/searches": SEARCH,
    "GET /v1/searches": {"items": [SEARCH], "next_cursor": None},
    "GET /v1/searches/search_1": SEARCH,
    "POST /v1/searches/search_1/stop": {**SEARCH, "status": "stopping"},
    "POST /v1/trainings/train_1/exports": MODEL,
    "GET /v1/models": {"items": [MODEL], "next_cursor": None},
    "POST /v1/clusters/cls_1/predictions": PREDICTION,
    "GET /v1/sandboxes": {"items": [SANDBOX], "next_cursor": None},
    "GET /v1/sandboxes/sbx_1": SANDBOX,
    "GET /v1/sandboxes/sbx_1/logs": {"lines": [{"time": CREATED, "stream": "stdout", "line": "ready"}]},
    "POST /v1/sandboxes/sbx_1/executions": EXECUTION,
    "GET /v1/sandboxes/sbx_1/executions": {"items": [EXECUTION], "next_cursor": None},
    "GET /v1/executions/exec_1": EXECUTION,
    "POST /v1/executions/exec_1/cancel": {**EXECUTION, "status": "cancelled"},
    "POST /v1/sandboxes/sbx_1/execute": {"stdout": "42\n", "stderr": "", "exit_code": 0, "duration_ms": 7},
}


@dataclass
class ApiRequest:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeApi:
    """The answers of the server by "METHOD /path", and its requests.

    An answer is JSON, raw bytes, (status, headers, bytes), or a function of the request.
    """

    answers: dict[str, Any] = field(default_factory=lambda: dict(ANSWERS))
    requests: list[ApiRequest] = field(default_factory=list)
    url: str = ""

    @property
    def last(self) -> ApiRequest:
        return self.requests[-1]

    def answer(self, request: ApiRequest) -> tuple[int, dict[str, str], bytes]:
        answer = self.answers.get(f"{request.method} {request.path}")
        if answer is None:
            problem = {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "No such thing.",
                "code": "not_found",
            }
            return 404, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, tuple):
            return answer
        if isinstance(answer, bytes):
            return 200, {"Content-Type": "application/octet-stream"}, answer
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.close_connection = True
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                return
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = ApiRequest(self.command, parts.path, dict(parse_qsl(parts.query)), headers, self._content(headers))
            api.requests.append(request)
            status, extra, body = api.answer(request)
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _content(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(headers.get("content-length", "0")))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

    return Handler


@contextmanager
def serve_fake_api() -> Iterator[FakeApi]:
    """Serve on a free port of the loopback address."""
    api = FakeApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def run(*words: str) -> int:
    """Run `flow-nexus <words>` and return its exit code."""
    return main(list(words))


def tar(*members: tuple[str, bytes | None]) -> bytes:
    """Return a tar archive of files (name, content) and folders (name, None)."""
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.mode = 0o755 if content is None else 0o644
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))
    return archive_bytes.getvalue()


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in names}
