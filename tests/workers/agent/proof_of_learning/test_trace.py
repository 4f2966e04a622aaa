import torch

from workers.agent.proof_of_learning.trace import FingerprintSampler, trace_of


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {"a.weight": torch.randn(40, 50), "b.bias": torch.randn(7), "c.weight": torch.randn(3, 100)}


def test_a_fingerprint_is_of_the_values_and_the_loss() -> None:
    sampler = FingerprintSampler(state(), (), "base", "3/1")
    assert sampler.fingerprint(state(), 0.5) == FingerprintSampler(state(), (), "base", "3/1").fingerprint(state(), 0.5)
    assert sampler.fingerprint(state(), 0.5) != sampler.fingerprint(state(), 0.5000001)
    assert sampler.fingerprint(state(), 0.5) != sampler.fingerprint(state(1), 0.5)


def test_a_step_of_every_value_by_the_smallest_amount_is_seen() -> None:
    sampler = FingerprintSampler(state(), (), "base", "3/1")
    moved = {name: torch.nextafter(tensor, tensor + 1) for name, tensor in state().items()}
    assert sampler.fingerprint(moved, 0.5) != sampler.fingerprint(state(), 0.5)


def test_each_round_looks_at_other_places_and_never_at_frozen_ones() -> None:
    found = {
        FingerprintSampler(state(), (), base, word).fingerprint(state(), 0.5)
        for base, word in [("base", "3/1"), ("base", "3/2"), ("other", "3/1")]
    }
    assert len(found) == 3
    frozen = FingerprintSampler(state(), {"a.weight", "b.bias"}, "base", "3/1")
    assert frozen.fingerprint({**state(1), "c.weight": state()["c.weight"]}, 0.5) == frozen.fingerprint(state(), 0.5)


def test_a_trace_tells_the_order() -> None:
    assert trace_of(["1" * 64, "2" * 64]) != trace_of(["2" * 64, "1" * 64])
