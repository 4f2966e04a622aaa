"""Multi-Krum, and the median for few updates, alone and in a round of real agents."""

from collections.abc import Iterator

import pytest
import torch

from tests.workers.agent.agents import Federation, federation, global_model, plus, update
from workers.agent.aggregator.consensus.byzantine import choose, tolerated


def drawn(count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Return honest updates: a common step plus a random step of the same size."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    common = torch.randn(2000, generator=generator)
    return [{"w": common + torch.randn(2000, generator=generator)} for _ in range(count)]


def bad(kind: str, honest: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    step = honest[0]["w"]
    generator = torch.Generator()
    generator.manual_seed(9)
    turned = {"flipped": -step, "scaled": 20 * step, "noise": 10 * torch.randn(2000, generator=generator)}
    return {"w": turned[kind]}


@pytest.mark.parametrize(("updates", "malicious"), [(2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (7, 2), (8, 2), (9, 3)])
def test_f_is_the_largest_that_the_number_of_updates_allows(updates: int, malicious: int) -> None:
    assert tolerated(updates) == malicious


@pytest.mark.parametrize("kind", ["flipped", "scaled", "noise"])
@pytest.mark.parametrize(("honest", "malicious"), [(3, 1), (4, 1), (6, 2), (7, 3)])
def test_the_malicious_are_named_and_leave_no_trace(kind: str, honest: int, malicious: int) -> None:
    updates = drawn(honest)
    updates = [*updates, *(bad(kind, updates[index:]) for index in range(malicious))]
    choice = choose(updates)
    assert choice.outliers == list(range(honest, honest + malicious))
    assert not {*choice.accepted} & {*choice.outliers}
    model = choice.rule([updates[index] for index in choice.accepted])["w"]
    wanted = torch.stack([item["w"] for item in updates[:honest]]).mean(0)
    assert float((model - wanted).norm() / wanted.norm()) < 0.5


def test_among_honest_updates_nobody_is_named() -> None:
    for count in range(1, 12):
        for seed in range(5):
            assert choose(drawn(count, seed)).outliers == []


def test_few_updates_go_to_the_coordinates_median() -> None:
    updates = drawn(4)
    choice = choose(updates)
    assert choice.accepted == [0, 1, 2, 3]
    ordered = torch.stack([item["w"] for item in updates]).sort(0).values
    torch.testing.assert_close(choice.rule(updates)["w"], ordered[1:3].mean(0))


def test_five_updates_and_more_are_averaged_as_multi_krum_says() -> None:
    """The mean is over n - f - 2 updates, and each counts the same."""
    for count, kept in ((5, 2), (8, 4), (9, 4)):
        updates = drawn(count)
        choice = choose(updates)
        assert len(choice.accepted) == kept
        chosen = [updates[index]["w"] for index in choice.accepted]
        torch.testing.assert_close(choice.rule([updates[index] for index in choice.accepted])["w"], torch.stack(chosen).mean(0))


@pytest.fixture
def four() -> Iterator[Federation]:
    with federation(4) as found:
        yield found


def test_a_round_names_who_lies_far_from_the_others_and_takes_the_median_of_the_rest(four: Federation) -> None:
    four.collect(consensus="byzantine")
    for number, amount in enumerate((0.01, 0.011, 0.012, -0.3), start=1):
        assert four.push(f"w{number}", update(four, f"w{number}", plus(four, amount), samples=10**number))["accepted"]
    found = four.aggregated()
    assert (found["state"], found["accepted"]) == ("done", ["w1", "w2", "w3"])
    assert found["rejected"] == {"w4": "its update lies far from the others'"}
    assert found["notices"] == ["4 updates were combined by the median"]
    assert found["consensus_seconds"] is not None
    wanted = plus(four, 0.011)
    for name, tensor in global_model(four, found["digest"]).items():
        torch.testing.assert_close(tensor, wanted[name])
