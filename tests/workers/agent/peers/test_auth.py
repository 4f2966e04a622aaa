"""Who may call which route.

A cluster's nodes may belong to several organisations, and one of them may be malicious.
"""

from collections.abc import Iterator

import httpx
import pytest

from tests.workers.agent.acting import KEYS, bearer, key_of, tokens_of
from tests.workers.agent.agents import MODEL, TRAINING, Federation, LiveAgent, federation, global_model, update
from workers.agent.peers.tokens import CONTROL_PLANE, Caller, issue, read, with_tokens
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Autonomy, Peer
from workers.agent.protocol.training import InitTraining, ReplicateModel

ROUND = f"/trainings/{TRAINING}/rounds/1"
W1, PS = Caller("worker", "w1"), Caller("aggregator", "ps")
VALIDATOR = Caller("validator", "v1")
CALLERS = {"control": CONTROL_PLANE, "aggregator": PS, "worker": Caller("worker", "w2"), "validator": VALIDATOR}
REPORT = {"node_id": "w2", "training_id": TRAINING, "round": 1, "state": "done"}

# The routes that a worker answers, by role of the caller.
OPEN = [
    ("GET", "/health", {"control"}),
    ("POST", "/shards/check", {"control"}),
    ("POST", "/shards/encode", {"control"}),
    ("POST", "/trainings", {"control"}),
    ("POST", "/rounds/aggregate", {"control"}),
    ("POST", "/rounds/train", {"control"}),
    ("GET", ROUND, {"control"}),
    ("POST", f"{ROUND}/drop", {"control"}),
    ("POST", "/models", {"control"}),
    ("POST", "/evaluations", {"control"}),
    ("POST", "/ballots", {"control"}),
    ("POST", "/predictions", {"control"}),
    ("POST", "/exports", {"control"}),
    ("POST", f"/trainings/{TRAINING}/stop", {"control", "aggregator"}),
    ("POST", f"{ROUND}/fallback", {"aggregator"}),
    ("POST", "/scores", {"aggregator"}),
    ("POST", "/audits", {"aggregator"}),
    ("GET", f"{ROUND}/evidence/start", {"aggregator"}),
    ("POST", "/inferences", {"aggregator"}),
    ("POST", "/synchronous/begin", {"aggregator"}),
    ("POST", "/synchronous/x/share", {"aggregator"}),
    ("POST", "/synchronous/go", {"aggregator"}),
    ("GET", "/synchronous/x", {"aggregator"}),
    ("GET", f"{ROUND}/parts/x", {"aggregator", "worker"}),
    ("GET", f"/models/{'0' * 64}", {"aggregator", "worker", "validator"}),
]


@pytest.fixture(scope="module")
def two() -> Iterator[Federation]:
    with federation(2) as found:
        yield found


def sent(agent: LiveAgent, method: str, path: str, caller: Caller, content: bytes = b"{}") -> httpx.Response:
    return agent.http.request(method, path, headers=bearer(agent.node_id, caller), content=content)


@pytest.mark.parametrize(("method", "path", "roles"), OPEN)
def test_a_route_is_open_to_those_whom_it_is_for(two: Federation, method: str, path: str, roles: set[str]) -> None:
    answered = set()
    for role, caller in CALLERS.items():
        answer = sent(two.workers[0], method, path, caller)
        if answer.status_code == 403:
            assert answer.json()["code"] == "not_for_you"
        else:
            assert answer.status_code != 401
            answered.add(role)
    assert answered == roles


def test_a_node_sends_no_update_in_anothers_name(two: Federation) -> None:
    two.collect()
    forged = update(two, "w2", global_model(two))
    for caller in (W1, PS, VALIDATOR, CONTROL_PLANE):
        answer = sent(two.aggregator, "PUT", f"{ROUND}/updates/w2", caller, forged)
        assert (answer.status_code, answer.json()["code"] in ("not_the_author", "not_for_you")) == (403, True)
    assert two.aggregator.call("GET", f"{ROUND}?role=aggregator")["received"] == []
    assert two.push("w2", forged)["accepted"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{ROUND}/exchanged", {"report": REPORT}),
        ("POST", "/synchronous/ended", {"attempt": "x", "report": REPORT}),
        ("PUT", "/synchronous/x/vectors/up-0/w2", {}),
    ],
)
def test_a_node_tells_nothing_in_anothers_name(two: Federation, method: str, path: str, body: dict[str, object]) -> None:
    answer = two.aggregator.http.request(method, path, headers=bearer("ps", W1), json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_the_author")
    answer = two.aggregator.http.request(method, path, headers=bearer("ps", Caller("worker", "w2")), json=body)
    assert answer.status_code != 403


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("keys", {"sealing": "00", "masking": "00", "samples": 1}),
        ("shares", {"shares": {}}),
        ("survivors", {}),
        ("unmask", {"seeds": {}, "keys": {}}),
    ],
)
def test_a_secure_sum_hears_each_worker_for_itself(two: Federation, phase: str, said: dict[str, object]) -> None:
    two.collect(2, secure_aggregation=True)
    path = f"/trainings/{TRAINING}/rounds/2/secure/{phase}?wait=0"
    answer = two.aggregator.http.post(path, headers=bearer("ps", W1), json={"node_id": "w2", **said})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_the_author")


def test_what_a_message_names_is_reached_with_the_readers_own_passes() -> None:
    peers = [Peer(node_id=name, url="http://x") for name in ("w1", "ps")]
    keep = with_tokens(ReplicateModel(training_id="t", digest="d", source=peers[1], head=peers[0]), tokens_of(W1))
    assert keep.head is not None
    assert [read(key_of(peer.node_id), str(peer.token)) for peer in (keep.source, keep.head)] == [W1, W1]
    assert read(key_of("w1"), str(keep.source.token)) is None, "a pass opens one agent"
    init = InitTraining(training_id="t", model=MODEL, sources=[peers[0], keep.source])
    tokens = [peer.token for peer in with_tokens(init, tokens_of(PS)).sources]
    assert tokens == [KEYS.token_at("w1", PS), keep.source.token], "one that has a pass keeps it"


@pytest.mark.parametrize(
    "token", ["", ".", "..", "worker", "worker.w1", "worker.w1.", "control..", "worker.w1.\u00e9", "x" * 10_000]
)
def test_what_is_no_pass_is_nobodys(token: str) -> None:
    assert read(key_of("ps"), token) is None


def test_keys_and_passes_are_not_shown_where_messages_are_printed() -> None:
    config = AgentConfig(node_id="w1", role="worker", key=key_of("w1"))
    peer = Peer(node_id="w1", url="http://x", headers={"X-Access": "of the way"}, token=issue(key_of("w1"), W1))
    for message in (config, peer, ReplicateModel(training_id="t", digest="d", source=peer)):
        assert not [secret for secret in (key_of("w1"), "of the way", "worker.w1.") if secret in f"{message!r} {message}"]


def test_no_pass_and_no_way_to_a_peer_lies_on_a_nodes_disk() -> None:
    """Code that runs in a sandbox can read its files."""
    with federation(1) as one:
        one.aggregator.peer = one.aggregator.peer.model_copy(update={"headers": {"X-Way": "secret-of-the-way"}})
        one.collect(consensus="proof-of-learning")
        one.train(one.workers[0], consensus="proof-of-learning", autonomy=Autonomy(enabled=True, level=0.5))
        assert one.aggregated()["accepted"] == ["w1"], "it was audited, from what lies on its disk"
        secrets = ["secret-of-the-way", key_of("w1"), key_of("ps"), KEYS.token_at("ps", W1), KEYS.token_at("w1", PS)]
        files = [path for agent in (one.aggregator, *one.workers) for path in agent.root.rglob("*") if path.is_file()]
        assert any(path.name == "round.json" for path in files)
        assert not [path for path in files for secret in secrets if secret.encode() in path.read_bytes()]
