import asyncio
import time

from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.long_poll import PollableReport


def watched() -> PollableReport[TrainReport]:
    return PollableReport(TrainReport(node_id="w", training_id="t", round=1, state="running"), "running")


def test_a_waiter_gets_the_report_as_it_stands_when_its_time_is_over() -> None:
    async def wait() -> tuple[TrainReport, TrainReport]:
        found = watched()
        found.change(progress=0.5)
        return await found.closed(0.05), await found.closed(0)

    for report in asyncio.run(wait()):
        assert (report.state, report.progress) == ("running", 0.5)


def test_the_end_wakes_every_waiter_at_once() -> None:
    async def wait() -> tuple[list[TrainReport], float]:
        found = watched()
        waiters = [asyncio.create_task(found.closed(30)) for _ in range(5)]
        await asyncio.sleep(0.02)
        found.change(progress=0.9)
        await asyncio.sleep(0.02)
        assert not any(waiter.done() for waiter in waiters), "only the end wakes"
        started = time.monotonic()
        found.change(state="done")
        return await asyncio.gather(*waiters), time.monotonic() - started

    reports, seconds = asyncio.run(wait())
    assert {report.state for report in reports} == {"done"}
    assert seconds < 5


def test_who_comes_after_the_end_does_not_wait() -> None:
    async def wait() -> TrainReport:
        found = watched()
        found.change(state="failed")
        assert not found.is_open
        return await asyncio.wait_for(found.closed(30), 5)

    assert asyncio.run(wait()).state == "failed"


def test_a_report_that_was_handed_out_does_not_change() -> None:
    found = watched()
    before = found.report
    found.change(state="done", loss=0.25)
    assert (before.state, before.loss) == ("running", None)
    assert (found.report.state, found.report.loss) == ("done", 0.25)
