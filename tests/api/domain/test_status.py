import pytest

from api.domain import status

TABLES = {
    "cluster": status.CLUSTER_MOVES,
    "node": status.NODE_MOVES,
    "training": status.TRAINING_MOVES,
    "round": status.ROUND_MOVES,
    "prediction": status.PREDICTION_MOVES,
    "model": status.MODEL_MOVES,
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
