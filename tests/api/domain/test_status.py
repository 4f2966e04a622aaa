import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain import status

TABLES = {
    "cluster": status.CLUSTER_MOVES,
    "node": status.NODE_MOVES,
    "training": status.TRAINING_MOVES,
    "round": status.ROUND_MOVES,
    "prediction": status.PREDICTION_MOVES,
    "model": status.MODEL_MOVES,
    "search": status.SEARCH_MOVES,
    "execution": status.EXECUTION_MOVES,
}


@pytest.mark.parametrize("noun", TABLES)
def test_every_target_is_a_state(noun: str) -> None:
    moves = TABLES[noun]
    assert {target for targets in moves.values() for target in targets} <= set(moves)


@pytest.mark.parametrize(("noun", "final"), [("cluster", "terminated"), ("node", "terminated")])
def test_every_state_can_reach_the_end(noun: str, final: str) -> None:
    moves = TABLES[noun]
    reached = {final}
    while grown := {state for state, targets in moves.items() if targets & reached} - reached:
        reached |= grown
    assert reached == set(moves)


def test_an_illegal_move_is_refused() -> None:
    with pytest.raises(status.IllegalMoveError):
        status.check_move(status.NODE_MOVES, "node", "terminated", "running")


def test_settled_states_exist() -> None:
    for noun, states in status.SETTLED.items():
        assert states <= set(TABLES[noun])


def final(noun: str) -> set[str]:
    return {state for state, targets in TABLES[noun].items() if not targets}


nouns = st.sampled_from(sorted(TABLES))


@given(nouns, st.data())
def test_no_walk_leaves_the_table_and_none_goes_on_from_a_final_state(noun: str, data: st.DataObject) -> None:
    """`check_move` accepts the moves of the table and refuses all others."""
    moves = TABLES[noun]
    state = data.draw(st.sampled_from(sorted(moves)))
    for wanted in data.draw(st.lists(st.sampled_from(sorted({*moves, "nonsense"})), max_size=12)):
        if wanted in moves[state]:
            status.check_move(moves, noun, state, wanted)
            assert state not in final(noun)
            assert wanted != state, "to stay is no move"
            state = wanted
        else:
            with pytest.raises(status.IllegalMoveError, match=f"a {noun} cannot go from {state} to {wanted}"):
                status.check_move(moves, noun, state, wanted)


@pytest.mark.parametrize(
    ("noun", "ends"),
    [
        ("cluster", {"terminated"}),
        ("node", {"terminated"}),
        ("training", {"refused"}),
        ("round", {"completed"}),
        ("prediction", {"completed", "failed", "cancelled"}),
        ("model", {"expired", "failed", "cancelled"}),
        ("search", {"completed", "stopped", "failed"}),
    ],
)
def test_final_states_are_these_and_every_state_can_reach_one(noun: str, ends: set[str]) -> None:
    assert final(noun) == ends
    reached = set(ends)
    while grown := {state for state, targets in TABLES[noun].items() if targets & reached} - reached:
        reached |= grown
    assert reached == set(TABLES[noun])


@pytest.mark.parametrize("noun", status.SETTLED)
def test_a_wait_for_a_settled_state_always_ends(noun: str) -> None:
    """Every final status is settled. From every other status a settled one can be reached."""
    settled = status.SETTLED[noun]
    assert final(noun) <= settled
    reached = set(settled)
    while grown := {state for state, targets in TABLES[noun].items() if targets & reached} - reached:
        reached |= grown
    assert reached == set(TABLES[noun])


def test_an_active_training_is_one_that_may_still_end_and_a_live_node_one_that_may_still_cost() -> None:
    ended = {"completed", "refused", "stopped", "failed"}
    assert set(TABLES["training"]) == status.ACTIVE_TRAINING | ended
    assert not status.ACTIVE_TRAINING & ended
    assert set(TABLES["search"]) == status.ACTIVE_SEARCH | status.SETTLED["search"]
    assert set(TABLES["node"]) == status.LIVE_NODE | {"terminating", "terminated"}
    assert all("terminating" in TABLES["node"][state] for state in status.LIVE_NODE)
    assert all("terminating" in TABLES["cluster"][state] for state in ("initializing", "connected", "training"))
