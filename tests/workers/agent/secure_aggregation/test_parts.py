"""The parts of a secure sum, checked against values computed by hand."""

import numpy as np
import pytest
import torch

from workers.agent.secure_aggregation import fixed_point, masks, shamir

SECRET = bytes(range(32))


def test_two_points_of_a_line_give_its_value_at_zero() -> None:
    secret = int.from_bytes(SECRET, "big")
    slope = 7
    line = {point: (secret + slope * point) % shamir.PRIME for point in (1, 2, 3)}
    assert shamir.join({1: line[1], 3: line[3]}) == shamir.join({2: line[2], 3: line[3]}) == SECRET


def test_any_threshold_of_shares_gives_the_secret_and_fewer_do_not() -> None:
    shares = shamir.split(SECRET, [1, 2, 3, 4, 5], 3)
    assert shamir.join({point: shares[point] for point in (5, 1, 3)}) == SECRET
    assert shamir.join(shares) == SECRET
    with pytest.raises(ValueError, match="not shares of one secret"):
        shamir.join({point: shares[point] for point in (1, 2)})
    assert shamir.split(SECRET, [1, 2], 2) != shamir.split(SECRET, [1, 2], 2)
    with pytest.raises(ValueError, match="no fewer than the threshold"):
        shamir.split(SECRET, [1, 2], 3)


def test_fixed_point_by_hand() -> None:
    numbers, clipped = fixed_point.encode(torch.tensor([0.5, -1.0, 100.0, -100.0, 0.0]), 0.5)
    assert numbers.tolist() == [2**25, 2**32 - 2**26, 2**29, 2**32 - 2**29, 0]
    assert clipped == 2
    assert fixed_point.decode(numbers).tolist() == [0.25, -0.5, 4.0, -4.0, 0.0]
    with pytest.raises(ValueError, match="NaN"):
        fixed_point.encode(torch.tensor([float("nan")]), 1.0)


def test_the_sum_of_shares_keeps_its_sign_and_is_off_by_less_than_is_stated() -> None:
    torch.manual_seed(0)
    workers = [torch.randn(1000) * 4 for _ in range(10)]
    total = np.zeros(1000, np.uint32)
    for change in workers:
        total = total + fixed_point.encode(change, 0.1)[0]
    mean = torch.stack(workers).double().clamp(-8, 8).mean(0)
    assert float((fixed_point.decode(total) - mean).abs().max()) <= 10 * 2**-28


def test_both_sides_of_a_pair_agree_and_a_third_does_not() -> None:
    a, b, c = (masks.new_private() for _ in range(3))
    key = masks.agree(a, masks.public_of(b), "run mask")
    assert key == masks.agree(b, masks.public_of(a), "run mask")
    assert key not in (masks.agree(c, masks.public_of(b), "run mask"), masks.agree(a, masks.public_of(b), "run seal"))
    assert masks.stream(key, 8).tolist() == masks.stream(key, 100)[:8].tolist()
    sealed = masks.seal(key, b"share", "w1>w2")
    assert masks.unseal(key, sealed, "w1>w2") == b"share"
    for wrong in (
        (key, sealed, "w1>w3"),
        (masks.new_seed(), sealed, "w1>w2"),
        (key, sealed[:-1], "w1>w2"),
        (key, b"", "w1>w2"),
    ):
        with pytest.raises(ValueError, match="cannot be opened"):
            masks.unseal(*wrong)
