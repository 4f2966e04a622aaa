"""Whole runs of the protocol without a network: who leaves when, and what the aggregator sees of it."""

from collections.abc import Collection, Mapping

import numpy as np
import pytest
import torch

from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation.fixed_point import FixedPointVector
from workers.agent.secure_aggregation.participant import Participant
from workers.agent.secure_aggregation.summing import MaskedSum

_LENGTH = 20_000


def changes(count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(count)
    return {f"w{number}": torch.randn(_LENGTH) * 0.1 for number in range(count)}


def samples(names: Collection[str]) -> dict[str, int]:
    return {name: 100 * (1 + number) for number, name in enumerate(sorted(names))}


def mean(updates: Mapping[str, torch.Tensor], names: Collection[str]) -> torch.Tensor:
    """Plain FedAvg."""
    weights = samples(updates)
    total = sum((updates[name].double() * weights[name] for name in names), start=torch.zeros(_LENGTH).double())
    return total / sum(weights[name] for name in names)


def run(
    updates: Mapping[str, torch.Tensor],
    *,
    never_share: Collection[str] = (),
    never_send: Collection[str] = (),
    never_tell: Collection[str] = (),
) -> tuple[torch.Tensor, dict[str, FixedPointVector]]:
    """(the mean change, what the aggregator received of each)."""
    counts = samples(updates)
    people = {name: Participant(name, "t/1", counts[name]) for name in updates}
    roster = [one.keys for one in people.values()]
    sealed = {name: one.share(roster) for name, one in people.items() if name not in never_share}
    total = MaskedSum("t/1", roster, sealed)
    received = {}
    for name in sealed:
        if name not in never_send:
            delivered = {sender: boxes[name] for sender, boxes in sealed.items() if sender != name}
            received[name], _ = people[name].mask(updates[name], delivered)
            total.add(name, received[name])
    told = [people[name].reveal(total.added) for name in sorted(total.added) if name not in never_tell]
    return total.change(told), received


@pytest.mark.parametrize("count", [3, 4, 7])
def test_the_sum_is_plain_fedavg(count: int) -> None:
    updates = changes(count)
    found, _ = run(updates)
    assert float((found - mean(updates, updates)).abs().max()) < 1e-7


def test_who_leaves_before_or_after_sharing_or_after_sending_does_not_spoil_the_sum() -> None:
    updates = changes(7)
    found, _ = run(updates, never_share={"w6"}, never_send={"w1"}, never_tell={"w3"})
    assert float((found - mean(updates, {"w0", "w2", "w3", "w4", "w5"})).abs().max()) < 1e-7


def test_below_the_threshold_nothing_is_unmasked() -> None:
    updates = changes(5)
    with pytest.raises(AgentError, match="below_threshold"):
        run(updates, never_tell={"w0", "w1", "w2"})
    with pytest.raises(AgentError, match="below_threshold"):
        run(updates, never_send={"w0", "w1", "w2"})
    with pytest.raises(AgentError, match="below_threshold"):
        run(changes(2))


def test_what_the_aggregator_receives_of_one_worker_looks_random_and_says_nothing_of_its_update() -> None:
    updates = changes(3)
    # An update whose own bytes are far from random.
    updates["w0"] = torch.linspace(-1, 1, _LENGTH)
    _, received = run(updates)
    _, again = run(updates)
    for name, change in updates.items():
        counts = np.bincount(np.frombuffer(received[name].tobytes(), np.uint8), minlength=256)
        expected = 4 * _LENGTH / 256
        # Chi-square with 255 degrees of freedom: its mean is 255, its standard deviation 22.6.
        assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 6 * 22.6
        for bits in (received[name].astype(np.float64), received[name].view(np.int32).astype(np.float64)):
            assert abs(float(np.corrcoef(bits, change.numpy())[0, 1])) < 6 / _LENGTH**0.5
        assert (received[name] == again[name]).mean() < 0.001, "the same update never looks the same twice"


def test_two_of_three_do_not_open_the_third() -> None:
    updates = changes(3)
    _, received = run(updates)
    others = received["w0"] + received["w1"]
    apart = (np.zeros(_LENGTH, np.uint32) - others - received["w2"]).view(np.int32).astype(np.float64)
    assert abs(float(np.corrcoef(apart, updates["w2"].numpy())[0, 1])) < 6 / _LENGTH**0.5


def test_a_worker_tells_its_shares_once_and_never_both_of_one_other() -> None:
    people = [Participant(f"w{number}", "t/1", 10) for number in range(3)]
    roster = [one.keys for one in people]
    sealed = {one.keys.node_id: one.share(roster) for one in people}
    for one in people:
        own = one.keys.node_id
        one.mask(torch.zeros(4), {sender: boxes[own] for sender, boxes in sealed.items() if sender != own})
    told = people[0].reveal({"w0", "w1"})
    assert (set(told.seeds), set(told.keys)) == ({"w0", "w1"}, {"w2"})
    with pytest.raises(AgentError, match="already_revealed"):
        people[0].reveal({"w0", "w2"})


def test_forged_keys_and_foreign_shares_are_noticed() -> None:
    people = [Participant(f"w{number}", "t/1", 10) for number in range(3)]
    roster = [one.keys for one in people]
    with pytest.raises(AgentError, match="bad_keys"):
        people[0].share([roster[0].model_copy(update={"masking": roster[1].masking}), *roster[1:]])
    with pytest.raises(AgentError, match="not_in_the_sum"):
        people[0].share(roster[1:])
    sealed = {one.keys.node_id: one.share(roster) for one in people}
    with pytest.raises(AgentError, match="bad_share"):
        people[0].mask(torch.zeros(4), {"w1": sealed["w2"]["w0"], "w2": sealed["w1"]["w0"]})
