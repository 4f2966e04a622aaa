"""Red flags against hand-computed figures."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.red_flags import Flag, ObservedWorker, RoundFacts, find, outliers


def rounds(*losses: Mapping[str, float | None], state: str = "done") -> list[RoundFacts]:
    return [
        RoundFacts(number, 0.5, {node_id: ObservedWorker(state, loss) for node_id, loss in one.items()})
        for number, one in enumerate(losses, 1)
    ]


def codes(flags: list[Flag]) -> list[tuple[str, str | None]]:
    return [(flag.code, flag.node_id) for flag in flags]


def of_losses(*values: float | None) -> list[Flag]:
    return find(list(enumerate(values, 1)), [], {}, 0.03)


def of_rounds(*found: RoundFacts) -> list[Flag]:
    return find([], found, {}, 0.03)


def test_a_loss_far_from_the_others_is_an_outlier() -> None:
    # Median 0.41. Deviations 0.01, 0, 0.02, 0.01 and 0.49, their median 0.01.
    # The score is 0.6745 * 0.49 / 0.01 = 33.
    assert outliers({"a": 0.40, "b": 0.41, "c": 0.43, "d": 0.42, "e": 0.90}) == {"e": 0.90}
    # Median 0.4, deviations 0, 0.1, 0.1 and 0.3 (and 0.1): a score of 0.6745 * 0.3 / 0.1 = 2.02.
    assert outliers({"a": 0.4, "b": 0.3, "c": 0.5, "d": 0.7, "e": 0.3}) == {}
    assert outliers({"a": 0.4, "b": 0.4, "c": 0.4, "d": 0.1}) == {"d": 0.1}, "the others agree to the digit"
    assert outliers({"a": 0.400, "b": 0.401, "c": 0.402, "d": 0.45}) == {}, "a tenth away from the median"
    assert outliers({"a": 0.4, "b": 4.0}) == {}, "of two nobody can say who is wrong"


def test_a_worker_is_divergent_in_two_rounds_running() -> None:
    near: dict[str, float | None] = {"a": 0.40, "b": 0.41, "c": 0.42}
    far: dict[str, float | None] = {**near, "d": 0.9}
    below: dict[str, float | None] = {**near, "d": 0.1}
    assert codes(of_rounds(*rounds({**near, "d": 0.4}, far))) == []
    found = of_rounds(*rounds(far, far))
    assert codes(found) == [("divergent_worker", "d")]
    assert found[0].message == "The loss of d is 0.9, far above the workers' median of 0.415."
    assert "fedprox" in found[0].suggestion
    assert found[0].round == 2
    assert "below" in of_rounds(*rounds(below, below))[0].message
    assert codes(of_rounds(*rounds(far, below))) == [], "not on the same side"
    assert codes(of_rounds(*rounds(far, far, {**near, "d": 0.4}))) == [], "it is over"
    hand = RoundFacts(3, None, {"d": ObservedWorker("training", None)})
    assert codes(of_rounds(*rounds(far, far), hand)) == [("divergent_worker", "d")], "the round in hand says nothing yet"


def test_a_loss_that_rises_three_times_to_a_fifth_above_its_lowest_diverges() -> None:
    assert codes(of_losses(0.5, 0.52, 0.56, 0.6)) == [("loss_diverges", None)]
    assert codes(of_losses(0.5, 0.51, 0.52, 0.59)) == [], "less than a fifth"
    assert codes(of_losses(0.5, 0.7, 0.69, 0.8)) == [], "it fell between"
    assert codes(of_losses(0.5, 0.7, 0.8)) == [], "twice"
    assert codes(of_losses(0.5, math.nan)) == [("loss_diverges", None)]
    assert codes(of_losses(None, None)) == []
    found = of_losses(0.5, 0.6, 0.7, 0.8)[0]
    assert found.message == "The global loss has risen to 0.8; its lowest was 0.5."
    assert found.suggestion == "Lower the learning rate: it is 0.03, try 0.01."


def test_no_better_loss_in_five_rounds_beyond_noise_is_stagnation() -> None:
    # Changes 0.02, 0.01, 0.02 and 0.01: noise 0.015. The lowest fell by 0.01.
    found = of_losses(0.9, 0.50, 0.50, 0.52, 0.51, 0.49, 0.50)
    assert codes(found) == [("stagnation", None)]
    assert found[0].message == "No global loss clearly below 0.5 in the last 5 rounds."
    assert codes(of_losses(0.9, 0.50, 0.50, 0.52, 0.51, 0.48, 0.47)) == [], "by 0.03, more than the noise"
    assert codes(of_losses(0.500, 0.499, 0.498, 0.497, 0.496, 0.495)) == [], "slow, but steady"
    assert codes(of_losses(0.5, 0.5, 0.5, 0.5, 0.5)) == [], "five rounds have nothing before them"
    assert codes(of_losses(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)) == [("stagnation", None)]


def test_nodes_that_are_away_are_flagged_with_what_to_do() -> None:
    found = find([], rounds({"a": 0.4}), {"w1": "lost", "w2": "returning", "w3": "provisioning", "w4": "failed"}, 0.03)
    assert codes(found) == [("node_lost", name) for name in ("w1", "w2", "w3", "w4")]
    assert found[0].suggestion == "Redeploy node w1 (POST /v1/nodes/w1/redeploy) and upload its shard again."
    assert found[1].suggestion == found[2].suggestion == "Do nothing yet: the control plane is restarting it."
    assert [flag.round for flag in found] == [1] * 4
    assert find([], [], {"w1": "lost"}, 0.03)[0].round is None


def test_a_node_that_could_not_train_is_flagged_with_its_reason() -> None:
    last = RoundFacts(2, None, {"w1": ObservedWorker("failed", None, "out of memory (memory)")})
    found = of_rounds(*rounds({"w1": 0.4}), last)
    assert codes(found) == [("node_failed", "w1")]
    assert "out of memory" in found[0].message
    assert codes(of_rounds(last, *rounds({}, {"w1": 0.4}))) == []
    assert codes(find([], [last], {"w1": "lost"}, 0.03)) == [("node_lost", "w1")], "one flag is enough"


def rejected(*reasons: str | None) -> list[RoundFacts]:
    """Return rounds in which w1 was rejected for a reason. None: accepted."""
    return [
        RoundFacts(number, 0.5, {"w1": ObservedWorker("done" if reason is None else "rejected", 0.5, reason)})
        for number, reason in enumerate(reasons, 1)
    ]


def test_a_node_whose_updates_are_refused_over_and_over_is_flagged() -> None:
    assert codes(of_rounds(*rejected("too far"))) == []
    found = of_rounds(*rejected(None, "too far", "too far"))
    assert codes(found) == [("updates_rejected", "w1")]
    assert found[0].message == "The last 2 updates of w1 were refused: too far."
    assert codes(of_rounds(*rejected("too far", "too far", None))) == []
    resting = RoundFacts(3, 0.5, {"w1": ObservedWorker("not_sampled", None)})
    assert codes(of_rounds(*rejected("x", "x"), resting)) == [("updates_rejected", "w1")], "a round that it was not drawn for"


def test_an_update_without_numbers_is_flagged_at_once() -> None:
    found = of_rounds(*rejected("the update holds NaN or infinity (not_finite)"))
    assert codes(found) == [("update_not_finite", "w1")]
    assert "learning rate" in found[0].suggestion
    assert codes(of_rounds(*rejected("the update holds NaN or infinity", None))) == []


worker = st.builds(
    ObservedWorker,
    st.sampled_from(["done", "rejected", "failed", "lost", "late", "not_sampled", "training"]),
    st.one_of(st.none(), st.floats(0, 10), st.just(math.nan)),
    st.one_of(st.none(), st.sampled_from(["too far", "NaN or infinity"])),
)
facts = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(0, 10)), st.dictionaries(st.sampled_from("abcdef"), worker, max_size=6)),
    max_size=6,
)


@given(facts, st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["lost", "returning"])), st.randoms())
def test_the_order_of_workers_changes_nothing(
    given_rounds: list[tuple[float | None, dict[str, ObservedWorker]]], away: dict[str, str], order: object
) -> None:
    def shuffled(items: dict[str, object]) -> dict[str, object]:
        pairs = list(items.items())
        order.shuffle(pairs)  # type: ignore[attr-defined]
        return dict(pairs)

    losses = [(number, loss) for number, (loss, _) in enumerate(given_rounds, 1)]
    straight = [RoundFacts(number, loss, workers) for number, (loss, workers) in enumerate(given_rounds, 1)]
    mixed = [RoundFacts(one.number, one.loss, shuffled(dict(one.workers))) for one in straight]  # type: ignore[arg-type]
    assert find(losses, straight, away, 0.1) == find(losses, mixed, shuffled(dict(away)), 0.1)  # type: ignore[arg-type]


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.floats(0.01, 10), min_size=3))
def test_most_workers_are_never_outliers(losses: dict[str, float]) -> None:
    assert len(outliers(losses)) <= len(losses) / 2


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_scale_of_the_losses_changes_nothing(scale: float) -> None:
    losses = {"a": 0.40, "b": 0.41, "c": 0.43, "d": 0.42, "e": 0.90}
    assert outliers({name: loss * scale for name, loss in losses.items()}).keys() == outliers(losses).keys()
