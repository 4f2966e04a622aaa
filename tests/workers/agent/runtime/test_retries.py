"""Calls that are repeated after a pause."""

import asyncio
from collections.abc import Iterable

import pytest

from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.retries import retry


class FlakyCall:
    """Fails `failures` times, then returns the number of attempts."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts = 0

    async def __call__(self) -> int:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise AgentError("peer_failed", f"attempt {self.attempts}")
        return self.attempts


def attempts_of(call: FlakyCall, pauses_s: Iterable[float]) -> int:
    return asyncio.run(retry(call, pauses_s))


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_call_is_repeated_until_it_succeeds(failures: int) -> None:
    assert attempts_of(FlakyCall(failures), (0.0, 0.0)) == failures + 1


def test_the_last_error_is_raised_when_no_pause_is_left() -> None:
    call = FlakyCall(failures=5)
    with pytest.raises(AgentError, match="attempt 3"):
        attempts_of(call, (0.0, 0.0))
    assert call.attempts == 3


def test_calls_that_share_an_iterator_share_the_pauses() -> None:
    pauses = iter((0.0, 0.0))
    assert attempts_of(FlakyCall(failures=1), pauses) == 2
    assert attempts_of(FlakyCall(failures=1), pauses) == 2
    with pytest.raises(AgentError):
        attempts_of(FlakyCall(failures=1), pauses)


def test_each_failure_is_reported_with_its_pause_and_may_end_the_attempts() -> None:
    failures: list[tuple[str, float]] = []

    def note(error: AgentError, pause_s: float) -> None:
        failures.append((error.message, pause_s))
        if len(failures) == 2:
            raise error

    call = FlakyCall(failures=5)
    with pytest.raises(AgentError, match="attempt 2"):
        asyncio.run(retry(call, (0.0, 0.01, 0.02), note))
    assert failures == [("attempt 1", 0.0), ("attempt 2", 0.01)]
