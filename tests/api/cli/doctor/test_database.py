import pytest

from api.cli.doctor.database import clock


@pytest.mark.parametrize(("offset_s", "state"), [(0.0, "ok"), (-4.9, "ok"), (5.1, "failed"), (-3600.0, "failed")])
def test_a_clock_that_is_far_off_fails(offset_s: float, state: str) -> None:
    assert clock(offset_s).state == state
