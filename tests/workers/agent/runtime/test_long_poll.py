import asyncio
import time

import pytest
from pydantic import ValidationError

from workers.agent.protocol.common import AgentProblem
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.long_poll import validated_copy
from workers.agent.runtime.worker_report import WorkerReport


def running() -> WorkerReport:
    return WorkerReport.begin("w", "t", 1, [])


def test_a_waiter_gets_the_report_as_it_stands_when_its_time_is_over() -> None:
    async def wait() -> tuple[TrainReport, TrainReport]:
        report = running()
        report.set_progress(0.5)
        return await report.when_ended(0.05), await report.when_ended(0)

    for report in asyncio.run(wait()):
        assert (report.state, report.progress) == ("running", 0.5)


def test_the_end_wakes_every_waiter_at_once() -> None:
    async def wait() -> tuple[list[TrainReport], float]:
        report = running()
        waiters = [asyncio.create_task(report.when_ended(30)) for _ in range(5)]
        await asyncio.sleep(0.02)
        report.set_progress(0.9)
        await asyncio.sleep(0.02)
        assert not any(waiter.done() for waiter in waiters), "only the end wakes"
        started = time.monotonic()
        report.finish()
        return await asyncio.gather(*waiters), time.monotonic() - started

    reports, seconds = asyncio.run(wait())
    assert {report.state for report in reports} == {"done"}
    assert seconds < 5


def test_who_comes_after_the_end_does_not_wait() -> None:
    async def wait() -> TrainReport:
        report = running()
        report.fail(AgentProblem(code="diverged", message="the loss is not finite"))
        assert not report.is_open
        return await asyncio.wait_for(report.when_ended(30), 5)

    assert asyncio.run(wait()).state == "failed"


def test_a_report_that_was_handed_out_does_not_change() -> None:
    report = running()
    before = report.current
    report.record_epoch(10, 0.25, 0.5)
    report.finish()
    assert (before.state, before.loss) == ("running", None)
    assert (report.current.state, report.current.loss) == ("done", 0.25)


def test_a_trained_round_stays_open_until_its_update_is_sent() -> None:
    report = running()
    report.record_training(report.as_done())
    assert report.is_open
    again = WorkerReport.reopen(report.as_done())
    assert again.is_open


@pytest.mark.parametrize("fields", [{"progres": 0.5}, {"progress": "half"}, {"state": "over"}])
def test_a_copy_refuses_fields_that_the_message_does_not_have(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        validated_copy(running().current, **fields)
