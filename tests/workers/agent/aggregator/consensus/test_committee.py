from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.aggregator.consensus.committee import COMMITTEE, IDLE, WORSE, committee, rejected, votes_of
from workers.agent.protocol.consensus import ScoreResult, UpdateEffect, Vote

WORKERS = [f"node_w{number}" for number in range(6)]


def scores(
    voter: str,
    candidates: dict[str, float],
    samples: int = 128,
    base: float = 0.5,
    effects: dict[str, UpdateEffect] | None = None,
) -> ScoreResult:
    return ScoreResult(node_id=voter, samples=samples, base=base, candidates=candidates, effects=effects or {})


def effect(change: float, gain: float, error: float = 0.02) -> UpdateEffect:
    return UpdateEffect(change=change, gain=gain, error=error)


def refused(effects: dict[str, UpdateEffect]) -> list[str]:
    """Return the candidates that a voter refuses when all accuracies are the same."""
    votes = votes_of(scores("voter", dict.fromkeys(effects, 0.8), effects=effects))
    assert all(vote.reason == (None if vote.accept else IDLE) for vote in votes)
    return [vote.candidate for vote in votes if not vote.accept]


@given(st.lists(st.text(min_size=1, max_size=8), max_size=20, unique=True), st.randoms(), st.integers(1, 500))
def test_a_draw_is_replayable_in_any_order_of_the_workers(workers: list[str], random: object, number: int) -> None:
    drawn = committee(workers, "train_1", number)
    shuffled = list(workers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert committee(shuffled, "train_1", number) == drawn
    assert len(set(drawn)) == len(drawn) == min(COMMITTEE, len(workers))
    assert set(drawn) <= set(workers)


def test_a_draw_is_fair_and_new_each_round() -> None:
    draws = [committee(WORKERS, "train_1", number) for number in range(1, 601)]
    seats = Counter(member for drawn in draws for member in drawn)
    assert all(240 <= seats[worker] <= 360 for worker in WORKERS), "300 expected; five standard deviations are 61"
    assert len({tuple(drawn) for drawn in draws}) == 20
    assert draws != [committee(WORKERS, "train_2", number) for number in range(1, 601)]


def test_nobody_votes_on_itself() -> None:
    votes = votes_of(scores("node_w0", {"node_w0": 0.1, "node_w1": 0.9, "node_w2": 0.8}))
    assert [vote.candidate for vote in votes] == ["node_w1", "node_w2"]
    assert {vote.voter for vote in votes} == {"node_w0"}
    assert votes_of(scores("node_w0", {"node_w0": 0.9})) == []
    assert votes_of(scores("node_w0", {})) == []


def test_a_score_is_the_gain_over_the_base() -> None:
    (vote,) = votes_of(scores("node_w0", {"node_w0": 0.9, "node_w1": 0.8}, base=0.55))
    assert vote.score == pytest.approx(0.25)


def test_the_offender_is_rejected_and_the_honest_are_kept() -> None:
    candidates = {"node_w0": 0.91, "node_w1": 0.90, "node_w2": 0.35, "node_w3": 0.88}
    votes = [vote for voter in ("node_w0", "node_w1", "node_w3") for vote in votes_of(scores(voter, candidates))]
    assert dict(rejected(list(candidates), votes)) == {
        "node_w2": "3 of 3 committee members found it worse than the others' updates"
    }


def test_an_offender_on_the_committee_cannot_cast_out_the_honest_alone() -> None:
    candidates = {"node_w0": 0.91, "node_w1": 0.90, "node_w2": 0.35, "node_w3": 0.88}
    lies = {"node_w0": 0.0, "node_w1": 0.0, "node_w2": 1.0, "node_w3": 0.0}
    votes = [vote for voter in ("node_w0", "node_w1") for vote in votes_of(scores(voter, candidates))]
    votes += votes_of(scores("node_w2", lies))
    assert list(rejected(list(candidates), votes)) == ["node_w2"]


def test_chance_alone_rejects_nobody() -> None:
    """With ten held-out samples, one more mistake costs 0.1 of accuracy."""
    votes = votes_of(scores("node_w0", {"node_w0": 0.8, "node_w1": 0.7, "node_w2": 0.9, "node_w3": 0.6}, samples=10))
    assert all(vote.accept for vote in votes)


@pytest.mark.parametrize(("against", "cast", "out"), [(0, 0, False), (1, 2, False), (2, 3, True), (1, 3, False), (1, 1, True)])
def test_more_than_half_of_the_voters_must_refuse(against: int, cast: int, out: bool) -> None:
    votes = [Vote(voter=f"v{number}", candidate="x", accept=number >= against) for number in range(cast)]
    assert ("x" in rejected(["x"], votes)) is out


def test_an_update_that_answers_as_its_base_does_has_learned_nothing() -> None:
    honest = {"a": effect(0.30, 0.2), "b": effect(0.25, 0.18), "c": effect(0.28, 0.25)}
    assert refused({**honest, "base": effect(0.0, 0.0, 0.0)}) == ["base"]
    assert refused({**honest, "little noise": effect(0.01, 0.001, 0.001)}) == ["little noise"]
    assert refused({**honest, "much noise": effect(0.2, -0.05)}) == ["much noise"], "not clearly worse, but nothing gained"
    assert refused({**honest, "a small shard": effect(0.06, 0.1)}) == []


def test_a_late_start_that_clearly_gains_is_not_worse() -> None:
    accuracies = {"a": 0.75, "b": 0.74, "late": 0.5, "flipped": 0.45}
    effects = {"a": effect(0.3, 0.2), "b": effect(0.3, 0.22), "late": effect(0.1, 0.05, 0.01), "flipped": effect(0.2, -0.3)}
    votes = {vote.candidate: vote.reason for vote in votes_of(scores("voter", accuracies, effects=effects))}
    assert votes == {"a": None, "b": None, "late": None, "flipped": WORSE}


def test_who_clearly_loses_to_base_and_others_is_worse_whatever_its_accuracy() -> None:
    effects = {"a": effect(0.05, 0.01), "b": effect(0.05, -0.01), "c": effect(0.06, 0.0), "flipped": effect(0.2, -0.3, 0.05)}
    votes = {vote.candidate: vote.reason for vote in votes_of(scores("voter", dict.fromkeys(effects, 0.8), effects=effects))}
    assert votes == {"a": None, "b": None, "c": None, "flipped": WORSE}


def test_where_nobody_gains_any_more_only_a_copy_of_the_base_is_refused() -> None:
    honest = {"a": effect(0.02, 0.001), "b": effect(0.015, -0.004), "c": effect(0.03, 0.002)}
    assert refused(honest) == []
    assert refused({**honest, "base": effect(0.0, 0.0, 0.0)}) == ["base"]


def test_whom_nobody_can_be_compared_with_is_not_idle() -> None:
    assert refused({"only": effect(0.0, 0.0, 0.0)}) == []


def test_votes_on_who_is_no_candidate_count_for_nothing() -> None:
    assert dict(rejected(["x"], [Vote(voter="v", candidate="y", accept=False)])) == {}
