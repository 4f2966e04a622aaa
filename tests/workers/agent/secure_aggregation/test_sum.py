"""Complete runs of the protocol without a network.

Workers leave at different steps. The tests check what the aggregator learns.
"""

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
    """Return the plain FedAvg mean."""
    weights = samples(updates)
    total = sum((updates[name].double() * weights[name] for name in names), start=torch.zeros(_LENGTH).double())
    return total / sum(weights[name] for name in names)


def run(
    updates: Mapping[str, torch.Tensor],
    *,
    never_share: Collection[str] = (),
    never_send: Collection[str] = (),
    never_reveal: Collection[str] = (),
) -> tuple[torch.Tensor, dict[str, FixedPointVector]]:
    """Return the mean change, and the masked update of each worker."""
    counts = samples(updates)
    participants = {name: Participant(name, "t/1", counts[name]) for name in updates}
    roster = [participant.keys for participant in participants.values()]
    sealed = {name: participant.share(roster) for name, participant in participants.items() if name not in never_share}
    total = MaskedSum("t/1", roster, sealed)
    received = {}
    for name in sealed:
        if name not in never_send:
            delivered = {sender: shares[name] for sender, shares in sealed.items() if sender != name}
            received[name], _ = participants[name].mask(updates[name], delivered)
            total.add(name, received[name])
    revealed = [participants[name].reveal(total.added) for name in sorted(total.added) if name not in never_reveal]
    return total.mean_change(revealed), received


@pytest.mark.parametrize("count", [3, 4, 7])
def test_the_sum_is_plain_fedavg(count: int) -> None:
    updates = changes(count)
    result, _ = run(updates)
    assert float((result - mean(updates, updates)).abs().max()) < 1e-7


def test_who_leaves_before_or_after_sharing_or_after_sending_does_not_spoil_the_sum() -> None:
    updates = changes(7)
    result, _ = run(updates, never_share={"w6"}, never_send={"w1"}, never_reveal={"w3"})
    assert float((result - mean(updates, {"w0", "w2", "w3", "w4", "w5"})).abs().max()) < 1e-7


def test_below_the_threshold_nothing_is_unmasked() -> None:
    updates = changes(5)
    with pytest.raises(AgentError, match="below_threshold"):
        run(updates, never_reveal={"w0", "w1", "w2"})
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
    participants = [Participant(f"w{number}", "t/1", 10) for number in range(3)]
    roster = [participant.keys for participant in participants]
    sealed = {participant.keys.node_id: participant.share(roster) for participant in participants}
    for participant in participants:
        own = participant.keys.node_id
        participant.mask(torch.zeros(4), {sender: shares[own] for sender, shares in sealed.items() if sender != own})
    revealed = participants[0].reveal({"w0", "w1"})
    assert (set(revealed.seeds), set(revealed.keys)) == ({"w0", "w1"}, {"w2"})
    with pytest.raises(AgentError, match="already_revealed"):
        participants[0].reveal({"w0", "w2"})


def test_forged_keys_and_foreign_shares_are_noticed() -> None:
    participants = [Participant(f"w{number}", "t/1", 10) for number in range(3)]
    roster = [participant.keys for participant in participants]
    with pytest.raises(AgentError, match="bad_keys"):
        participants[0].share([roster[0].model_copy(update={"masking": roster[1].masking}), *roster[1:]])
    with pytest.raises(AgentError, match="not_in_the_sum"):
        participants[0].share(roster[1:])
    sealed = {participant.keys.node_id: participant.share(roster) for participant in participants}
    with pytest.raises(AgentError, match="bad_share"):
        participants[0].mask(torch.zeros(4), {"w1": sealed["w2"]["w0"], "w2": sealed["w1"]["w0"]})
