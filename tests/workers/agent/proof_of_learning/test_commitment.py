import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.proof_of_learning.commitment import CommitmentChain, chain_root, commitment_fault, with_sent_state
from workers.agent.protocol.training import Commitment

BASE, BASE_STATE = "b" * 64, "s" * 64
STATES = ["1" * 64, "2" * 64, "3" * 64, "4" * 64]
LOSSES = [1.25, 0.75, 0.5, 0.1]


def commitment(states: list[str] = STATES, losses: list[float] = LOSSES) -> Commitment:
    chain = CommitmentChain(BASE, "7/3")
    for place, (state, loss) in enumerate(zip(states, losses, strict=True)):
        chain.add(state, loss, 5, f"{place:064x}")
    return chain.commitment


def fault(proof: Commitment | None, base: str = BASE, end: str = STATES[-1]) -> str | None:
    return commitment_fault(proof, base, end, BASE_STATE)


def test_an_honest_chain_holds() -> None:
    assert fault(commitment()) is None
    assert fault(Commitment.model_validate_json(commitment().model_dump_json())) is None, "also after its way over the wire"


@given(
    st.lists(
        st.tuples(st.text("0123456789abcdef", min_size=64, max_size=64), st.floats(0, 100)),
        min_size=1,
        unique_by=lambda s: s[0],
    )
)
def test_every_honest_chain_holds(segments: list[tuple[str, float]]) -> None:
    proof = commitment([state for state, _ in segments], [loss for _, loss in segments])
    assert fault(Commitment.model_validate_json(proof.model_dump_json()), end=segments[-1][0]) is None


@pytest.mark.parametrize("place", range(4))
def test_any_changed_segment_is_found(place: int) -> None:
    states = [*STATES]
    states[place] = "f" * 64
    assert fault(commitment().model_copy(update={"segments": states}), end=states[-1]) is not None


@pytest.mark.parametrize("place", range(4))
def test_any_changed_loss_is_found(place: int) -> None:
    losses = [*LOSSES]
    losses[place] += 1e-9
    assert fault(commitment().model_copy(update={"losses": losses})) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": "7/4"},
        {"root": "f" * 64},
        {"segments": STATES[::-1]},
        {"segments": STATES[1:], "losses": LOSSES[1:]},
        {"segments": STATES[1:]},
        {"losses": [*LOSSES, 0.1]},
        {"steps": [5, 5, 5, 6]},
        {"traces": [f"{place:064x}" for place in (0, 1, 3, 2)]},
    ],
)
def test_anything_else_that_changed_is_found(changed: dict[str, object]) -> None:
    assert fault(commitment().model_copy(update=changed)) is not None


def test_another_base_or_another_update_is_found() -> None:
    assert fault(commitment(), base="c" * 64) is not None
    assert fault(commitment(), end="f" * 64) == "the update is not the model that was committed to"


def test_a_state_that_compression_changed_is_a_segment_without_steps() -> None:
    sent = with_sent_state(commitment(), BASE, "5" * 64)
    assert commitment_fault(sent, BASE, "5" * 64, BASE_STATE, compressed=True) is None
    assert fault(sent, end="5" * 64) == "the commitment has a segment without steps", "nothing was compressed"
    assert sent.steps == [5, 5, 5, 5, 0]
    assert with_sent_state(sent, BASE, "5" * 64) is sent


@pytest.mark.parametrize("steps", [[0, 0, 0, 0], [5, -5, 5, 5], [5, 0, 5, 5], [0, 5, 5, 0]])
def test_a_segment_without_steps_is_no_evidence(steps: list[int]) -> None:
    proof = commitment().model_copy(update={"steps": steps})
    proof = proof.model_copy(update={"root": chain_root(BASE, proof)})
    assert (
        commitment_fault(proof, BASE, STATES[-1], BASE_STATE, compressed=True) == "the commitment has a segment without steps"
    )


def test_no_commitment_is_no_evidence() -> None:
    for nothing in (None, commitment([], [])):
        assert fault(nothing) == "the update comes without evidence of learning"


@pytest.mark.parametrize(
    "states",
    [[BASE_STATE] * 4, [BASE_STATE], [*STATES[:3], BASE_STATE], [STATES[0], STATES[0], STATES[1]]],
)
def test_a_free_rider_that_returns_its_base_is_found(states: list[str]) -> None:
    proof = commitment(states, LOSSES[: len(states)])
    assert "nothing was learned" in (fault(proof, end=states[-1]) or "")
