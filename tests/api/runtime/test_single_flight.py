"""Equal questions of one moment are answered once, and no answer is older than its question."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from api.runtime.single_flight import SingleFlight


class Source:
    """A value that is read slowly. `reads` counts the reads."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.error: Exception | None = None

    async def read(self) -> int:
        self.reads += 1
        value = self.value
        await asyncio.sleep(0.02)
        if self.error is not None:
            raise self.error
        return value


def play(scenario: Callable[[SingleFlight, Source], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario(SingleFlight(), Source())

    asyncio.run(run())


def test_many_at_one_moment_are_answered_by_one_read() -> None:
    async def scenario(flights: SingleFlight, source: Source) -> None:
        answers = await asyncio.gather(*(flights.run("a", source.read) for _ in range(50)))
        assert (answers, source.reads) == ([0] * 50, 1)
        await asyncio.gather(flights.run("a", source.read), flights.run("b", source.read))
        assert source.reads == 3, "other keys are other questions"

    play(scenario)


def test_a_question_never_joins_a_read_that_has_begun() -> None:
    async def scenario(flights: SingleFlight, source: Source) -> None:
        first = asyncio.create_task(flights.run("a", source.read))
        await asyncio.sleep(0.01)
        source.value = 1
        later = await asyncio.gather(*(flights.run("a", source.read) for _ in range(20)))
        assert await first == 0
        assert later == [1] * 20
        assert source.reads == 2, "all that came meanwhile share the next read"

    play(scenario)


def test_who_leaves_takes_nobody_along() -> None:
    async def scenario(flights: SingleFlight, source: Source) -> None:
        crowd = [asyncio.create_task(flights.run("a", source.read)) for _ in range(5)]
        await asyncio.sleep(0.01)
        crowd[0].cancel()
        results = await asyncio.gather(*crowd, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [0] * 4
        assert source.reads == 1

    play(scenario)


def test_an_error_is_everybodys_and_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(flights: SingleFlight, source: Source) -> None:
        source.error = ValueError("no")
        results = await asyncio.gather(*(flights.run("a", source.read) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [ValueError] * 3
        left = asyncio.create_task(flights.run("a", source.read))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.sleep(0.05)
        source.error = None
        assert await flights.run("a", source.read) == 0

    play(scenario)
    assert "never retrieved" not in caplog.text


def test_a_flight_that_hangs_does_not_hold_up_the_next() -> None:
    async def scenario(flights: SingleFlight, source: Source) -> None:
        async def hang() -> int:
            await asyncio.sleep(60)
            return 0

        stuck = asyncio.create_task(flights.run("a", hang))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            assert await flights.run("a", source.read) == 0
        stuck.cancel()

    play(scenario)
