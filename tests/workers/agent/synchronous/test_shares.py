"""How pooled data is divided into shares."""

import numpy as np
import pytest

from workers.agent.synchronous import shares


@pytest.mark.parametrize(("count", "workers", "batch_size"), [(46, 4, 8), (47, 2, 8), (100, 3, 32), (9, 4, 2), (12, 1, 5)])
def test_every_sample_is_in_one_share_and_once_in_an_epoch(count: int, workers: int, batch_size: int) -> None:
    dealt = [shares.share(count, workers, place) for place in range(workers)]
    assert sorted(np.concatenate(dealt)) == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    steps = shares.steps(count, batch_size)
    parts = [shares.batches(len(share), steps, place, (3, 1, 0)) for place, share in enumerate(dealt)]
    for share, of in zip(dealt, parts, strict=True):
        assert len(of) == steps
        assert sorted(np.concatenate(of)) == list(range(len(share)))
    sizes = [sum(len(of[step]) for of in parts) for step in range(steps)]
    assert max(sizes) <= batch_size + workers // 2


def test_another_epoch_has_another_order_and_the_same_one_the_same() -> None:
    first, again, other = (np.concatenate(shares.batches(40, 5, 0, (3, 1, epoch))) for epoch in (0, 0, 1))
    assert list(first) == list(again) != list(other)
