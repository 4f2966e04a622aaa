"""Training data stays in its sandbox: who can download from a worker, in real sandboxes."""

from typing import Any

import pytest

from api.domain.scopes import EXPORT, SCOPES
from api.settings import Settings
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.real import start
from tests.api.routes.user import User
from tests.workers.sandboxes.hosting import API_KEY, Host

SHARD = b'[{"text": "a marked sentence", "sentiment": "positive"}]'
PATH = {"path": "/data/train.json"}
CODE = {"code": "print(open('/data/train.json').read())"}
WAYS_AROUND = ["/data", "/data/", "//data/train.json", "/proc/self/root/data/train.json", "/run/flow-nexus/agent.json", "/etc"]


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), **addresses)


@pytest.fixture(scope="module")
def everything(make_user: MakeUser) -> User:
    """A key with all scopes."""
    return make_user(project="clinics", scopes=SCOPES)


@pytest.fixture(scope="module")
def project(make_user: MakeUser) -> User:
    """A key with all scopes except data:export."""
    return make_user(project="clinics", scopes=SCOPES - {EXPORT})


@pytest.fixture(scope="module")
def worker(settings: Settings, project: User) -> str:
    """A worker with data that the project itself has uploaded."""
    node_id = start(settings, project)
    project.call("PUT", files(node_id), 201, params=PATH, content=SHARD)
    return node_id


@pytest.fixture(scope="module")
def sealed(settings: Settings, project: User) -> str:
    return start(settings, project, data_owner=True)


@pytest.fixture(scope="module")
def owner(project: User, sealed: str) -> User:
    """The owner's key was created before the first upload."""
    return project.holding(project.key(node_id=sealed)["api_key"])


def files(node_id: str) -> str:
    return f"/v1/sandboxes/{node_id}/files"


def run(node_id: str) -> str:
    return f"/v1/sandboxes/{node_id}/execute"


def test_a_worker_gives_nothing_out_to_its_project(project: User, worker: str) -> None:
    for path in (PATH["path"], *WAYS_AROUND):
        assert project.refused("GET", files(worker), 403, params={"path": path})["code"] == "data_export_needed"
    for language in ("python", "bash", None):
        body = {**CODE, "language": language}
        assert project.refused("POST", run(worker), 403, json=body)["code"] == "data_export_needed"
    for path in ("/home/user/.bashrc", "/run/flow-nexus/agent.json", "/tmp/x", "//data/x"):
        found = project.refused("PUT", files(worker), 403, params={"path": path}, content=b"import os")
        assert found["code"] == "data_export_needed", "what lies elsewhere could be code that somebody runs"
        assert project.refused("DELETE", files(worker), 403, params={"path": path})["code"] == "data_export_needed"
    assert SHARD.decode() not in project.http.get(f"/v1/sandboxes/{worker}/logs").text


def test_a_validator_is_as_closed_as_a_worker(settings: Settings, project: User) -> None:
    node_id = start(settings, project, node_type="validator")
    assert project.refused("GET", files(node_id), 403, params=PATH)["code"] == "data_export_needed"


def test_an_aggregator_is_open_to_its_project(settings: Settings, project: User) -> None:
    node_id = start(settings, project, node_type="parameter_server")
    project.call("PUT", files(node_id), 201, params=PATH, content=SHARD)
    assert project.http.get(files(node_id), params=PATH).content == SHARD
    assert "a marked sentence" in project.call("POST", run(node_id), 200, json=CODE)["stdout"]
    project.call("PUT", files(node_id), 201, params={"path": "/tmp/x"}, content=b"x")


def test_export_is_a_scope_of_its_own_and_leaves_a_trace(everything: User, worker: str) -> None:
    assert everything.http.get(files(worker), params=PATH).content == SHARD
    assert "a marked sentence" in everything.call("POST", run(worker), 200, json=CODE)["stdout"]
    for operation, detail in (
        ("download_file", {"path": "/data/train.json", "data_export": True}),
        ("execute", {"data_export": True}),
    ):
        entry = everything.audited(operation=operation, resource=worker, status=200)[0]
        assert entry["detail"] == {"path": None, "node": None, "data_export": False, **detail}
        assert everything.secret.startswith(entry["key_prefix"])


def test_an_owner_works_in_their_own_sandbox(owner: User, sealed: str) -> None:
    owner.call("PUT", files(sealed), 201, params=PATH, content=SHARD)
    assert owner.http.get(files(sealed), params=PATH).content == SHARD
    assert "a marked sentence" in owner.call("POST", run(sealed), 200, json=CODE)["stdout"]
    assert owner.call("GET", f"/v1/sandboxes/{sealed}", 200)["usage"]["memory_used_bytes"] > 0
    owner.call("GET", f"/v1/sandboxes/{sealed}/logs", 200)
    assert owner.call("GET", f"/v1/nodes/{sealed}/rounds", 200) == {"node_id": sealed, "items": []}
    for path in ("/etc/passwd", "/run/flow-nexus/agent.json", "/database", "/"):
        for method in ("GET", "PUT", "DELETE"):
            status = 422 if path == "/" and method != "GET" else 403
            owner.refused(method, files(sealed), status, params={"path": path}, **({"content": b""} if method == "PUT" else {}))


def test_what_was_deleted_is_gone(owner: User, sealed: str) -> None:
    set_location = {"path": "/data/it's a folder/x.json"}
    owner.call("PUT", files(sealed), 201, params=set_location, content=b"[]")
    assert owner.http.delete(files(sealed), params={"path": "/data/it's a folder"}).status_code == 204
    assert owner.refused("GET", files(sealed), 404, params=set_location)["code"] == "file_not_found"
    assert owner.refused("DELETE", files(sealed), 404, params=set_location)["code"] == "file_not_found"


def test_a_sealed_node_is_closed_to_every_other_key(everything: User, owner: User, sealed: str) -> None:
    owner.call("PUT", files(sealed), 201, params=PATH, content=SHARD)
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", files(sealed), {"params": PATH}),
        ("PUT", files(sealed), {"params": PATH, "content": b"poison"}),
        ("DELETE", files(sealed), {"params": PATH}),
        ("POST", run(sealed), {"json": CODE}),
    ]
    for method, path, options in attempts:
        assert everything.refused(method, path, 403, **options)["code"] == "owner_only"
    refused = everything.refused("POST", "/v1/keys", 409, json={"name": "second owner", "node_id": sealed})
    assert refused["code"] == "node_sealed", "the project cannot make itself an owner of what is there"
    owners = [item for item in everything.call("GET", "/v1/keys?limit=100", 200)["items"] if item["node_id"] == sealed]
    for item in owners:
        assert everything.refused("POST", f"/v1/keys/{item['key_id']}/rotate", 409)["code"] == "node_sealed"
    assert owner.http.get(files(sealed), params=PATH).content == SHARD


def test_an_owners_key_may_be_narrower_and_never_wider(project: User, worker: str) -> None:
    uploader = project.holding(project.key(node_id=worker, scopes=["data:write"])["api_key"])
    uploader.call("PUT", files(worker), 201, params={"path": "/data/more.json"}, content=SHARD)
    assert uploader.refused("POST", run(worker), 403, json=CODE)["code"] == "missing_scope"
    for scope in ("admin", "data:export", "clusters:write", "models:read"):
        body = {"name": "k", "node_id": worker, "scopes": [scope]}
        assert project.refused("POST", "/v1/keys", 422, json=body)["code"] == "invalid_scope"


def test_an_aggregator_has_no_owner(project: User) -> None:
    cluster_id = project.cluster()
    aggregator = project.deploy(cluster_id, node_type="parameter_server")
    body = {"name": "k", "node_id": aggregator}
    assert project.refused("POST", "/v1/keys", 409, json=body)["code"] == "not_a_data_node"
    fields = {"node_type": "parameter_server", "data_owner": True}
    project.refused("POST", f"/v1/clusters/{cluster_id}/nodes", 422, json=fields)


def test_two_owners_do_not_meet(settings: Settings, project: User, owner: User) -> None:
    other = start(settings, project, data_owner=True)
    neighbour = project.holding(project.key(node_id=other)["api_key"])
    neighbour.call("PUT", files(other), 201, params=PATH, content=SHARD)
    assert owner.refused("GET", files(other), 404, params=PATH)["code"] == "not_found"
    assert owner.refused("GET", f"/v1/sandboxes/{other}/logs", 404)["code"] == "not_found"
    assert owner.refused("GET", f"/v1/nodes/{other}/rounds", 404)["code"] == "not_found"
