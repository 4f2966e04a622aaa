"""The classes of a training, and the red flags of its shards."""

import pytest

from workers.agent.protocol.common import AgentProblem
from workers.agent.protocol.training import ShardReport
from workers.steps.rounds.classes import agreed_labels, flags
from workers.steps.rounds.refusal import RefusalError


def shard(node_id: str, **labels: int) -> ShardReport:
    return ShardReport(node_id=node_id, files=1, samples=sum(labels.values()), labels=labels)


def refused(*reports: ShardReport) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        agreed_labels(reports)
    return caught.value


def test_the_classes_are_the_union_over_the_shards() -> None:
    reports = [shard("w1", good=5), shard("w2", bad=3, mixed=1)]
    assert agreed_labels(reports) == ["bad", "good", "mixed"]


def test_label_names_are_the_classes() -> None:
    reports = [shard("w1", good=5), shard("w2", bad=3)]
    assert agreed_labels(reports, ["good", "bad", "mixed"]) == ["bad", "good", "mixed"]
    assert agreed_labels(reports, {"0": "bad", "1": "good", "2": "good"}) == ["bad", "good"]


def test_one_class_over_all_workers_is_refused() -> None:
    reason = refused(shard("w1", good=5), shard("w2", good=3)).reason
    assert (reason.status, reason.code) == (422, "single_class")
    assert reason.detail.startswith("All 8 samples of all 2 shards have the same label")
    assert [error.pointer for error in reason.errors] == ["/dataset"]


def test_an_unusable_shard_is_refused_with_its_node_and_reason() -> None:
    problem = AgentProblem(code="missing_text", message="/data/a.json, row 3: text is null.")
    reason = refused(shard("w1", good=5), ShardReport(node_id="w2", problem=problem)).reason
    assert (reason.code, reason.detail) == ("missing_text", "w2: /data/a.json, row 3: text is null.")


def test_a_worker_without_a_class_is_flagged() -> None:
    reports = [shard("w1", good=5, bad=5), shard("w2", good=3)]
    (flag,) = flags(reports, ["bad", "good"])
    assert (flag.code, flag.node_id) == ("missing_classes", "w2")
    assert flag.message == "w2 has samples of 1 of 2 classes. It lacks 'bad'."
    assert "fedprox" in flag.suggestion


def test_numbers_beside_names_point_to_label_names() -> None:
    reports = [ShardReport(node_id="w1", samples=9, labels={"0": 4, "1": 5}), shard("w2", bad=3, good=3)]
    assert all("label_names" in flag.suggestion for flag in flags(reports, agreed_labels(reports)))


def test_many_missing_classes_are_counted() -> None:
    labels = [f"class {number:02}" for number in range(30)]
    whole = ShardReport(node_id="w2", samples=30, labels=dict.fromkeys(labels, 1))
    (flag,) = flags([ShardReport(node_id="w1", samples=5, labels={labels[0]: 5}), whole], labels)
    assert flag.message.endswith("'class 10' and 19 more.")


def test_spellings_of_one_label_are_flagged() -> None:
    reports = [shard("w1", Positive=5, negative=5), shard("w2", positive=7, negative=1, Positive=1)]
    found = [flag for flag in flags(reports, agreed_labels(reports)) if flag.code == "similar_labels"]
    (flag,) = found
    assert flag.node_id is None
    assert "'Positive' (6 samples) and 'positive' (7 samples)" in flag.message


def test_even_shards_have_no_flag() -> None:
    assert flags([shard("w1", good=5, bad=5), shard("w2", good=1, bad=2)], ["bad", "good"]) == []
