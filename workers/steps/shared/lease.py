"""A step runs under a lease. It renews the lease while it acts, and always gives the row back."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.domain.records import FailureReason
from api.domain.sandboxes import SandboxError
from api.runtime import log_context, log_setup, tracing
from api.store import leases
from api.store.kinds import LeasedRow, noun_of
from workers import metrics
from workers.agent_client import AgentCallError
from workers.context import Context, draining
from workers.steps.shared.failure import MOST_FAILURES, AgentDiedError, StepFailedError, absent_part, describe
from workers.steps.shared.heartbeat import heartbeat

log = logging.getLogger(__name__)
T = TypeVar("T")
Fail = Callable[[str, FailureReason], None]
"""Move a row to `failed`, given the lease's token and the reason."""
_LONGEST_BACKOFF_S = 60.0
_CHECK_EVERY_S = 0.5
_GIVE_BACK_EVERY_S = 0.5


class _DrainingError(Exception):
    """This process was asked to end."""


def under_lease(
    context: Context, table: type[LeasedRow], row_id: str, body: Callable[[str], None], fail: Fail | None = None
) -> None:
    """Claim the row and run `body(token)`.

    A failure gives the row back. It is due again after a pause that grows with the attempts. A row
    that is itself the cause of `MOST_FAILURES` failures is not tried again: `fail` ends it.
    Without `fail` it is tried for ever: the end of a sandbox must not be given up.
    """
    if draining.is_set():
        return
    with context.database.unit_of_work() as uow:
        claim = leases.claim(uow.session, table, row_id, context.settings.lease_s)
        owners = {} if claim is None else leases.owners(uow.session, table, row_id)
    if claim is None:
        return
    if claim.is_takeover:
        metrics.TAKEN_OVER.labels(noun_of(table)).inc()
    named = {**owners, **log_context.ids_among([row_id])}
    tracing.annotate(named)
    with log_context.bound(named):
        _run(context, table, row_id, claim.token, body, fail)


def _run(
    context: Context, table: type[LeasedRow], row_id: str, token: str, body: Callable[[str], None], fail: Fail | None
) -> None:
    heartbeat.note(context)
    try:
        body(token)
    except leases.LeaseLostError:
        log.info("%s: another worker took it over", row_id)
    except _DrainingError:
        log.info("%s: given back, this worker ends", row_id)
        _give_back(context, table, row_id, token, 0)
    except Exception as error:  # noqa: BLE001 - every failure is counted and bounded here
        _log_failure(row_id, error)
        cause = absent_part(error)
        if cause is not None or fail is None or not _was_last(context, table, row_id, token):
            metrics.RETRIES.labels(noun_of(table), cause or "failure").inc()
            _give_back(context, table, row_id, token, failed=cause is None)
        else:
            metrics.GIVEN_UP.labels(noun_of(table)).inc()
            _end(context, table, row_id, token, error, fail)


def _log_failure(row_id: str, error: Exception) -> None:
    """Log a failure. The message of an unknown error may quote data, so only its place is
    logged.
    """
    if isinstance(error, SandboxError | AgentCallError | AgentDiedError | StepFailedError):
        log.warning("%s: %s: %s", row_id, type(error).__name__, error)
        return
    log.error("%s: the step failed: %s", row_id, log_setup.describe(error))


def _was_last(context: Context, table: type[Any], row_id: str, token: str) -> bool:
    """Return whether the row has now failed too often. False while the database is away."""
    try:
        with context.database.unit_of_work() as uow:
            return bool(leases.held(uow.session, table, row_id, token).failures + 1 >= MOST_FAILURES)
    except (leases.LeaseLostError, OperationalError, PoolTimeoutError):
        return False


def _end(context: Context, table: type[LeasedRow], row_id: str, token: str, error: Exception, fail: Fail) -> None:
    """End the row. Where that fails too, the row is given back and its end is tried again."""
    try:
        fail(token, describe(context, error))
    except leases.LeaseLostError:
        log.info("%s: another worker took it over", row_id)
    except Exception as error:  # noqa: BLE001 - the row is given back, whatever happened
        _log_failure(row_id, error)
        _give_back(context, table, row_id, token)


def act(context: Context, table: type[LeasedRow], row_id: str, token: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run network work while the lease is renewed.

    Raises:
        LeaseLostError: another worker has taken the row over.
    """
    return context.network.run(_with_heartbeat(context, table, row_id, token, work))


async def _with_heartbeat(
    context: Context, table: type[LeasedRow], row_id: str, token: str, work: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    task = asyncio.ensure_future(work())
    renew_at = time.monotonic() + context.settings.lease_s / 3
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_CHECK_EVERY_S)
            if done:
                return task.result()
            if draining.is_set():
                raise _DrainingError
            if time.monotonic() < renew_at:
                continue
            renew_at = time.monotonic() + context.settings.lease_s / 3
            try:
                kept = await asyncio.to_thread(_renew, context, table, row_id, token)
            except (OperationalError, PoolTimeoutError):
                # The token guards what is applied later, so the work may continue without the
                # database.
                log.warning("%s: the lease could not be renewed: the database is away", row_id)
                continue
            if not kept:
                raise leases.LeaseLostError(row_id)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _renew(context: Context, table: type[LeasedRow], row_id: str, token: str) -> bool:
    heartbeat.note(context)
    with context.database.unit_of_work() as uow:
        return leases.renew(uow.session, table, row_id, token, context.settings.lease_s)


def _give_back(
    context: Context, table: type[Any], row_id: str, token: str, due_in_s: float | None = None, *, failed: bool = False
) -> None:
    """Give the row back, due again in `due_in_s` seconds or after a pause that grows with the
    attempts.

    It is tried again while the database is away. If that takes too long, the lease expires and the
    sweep finds the row.
    """
    end = time.monotonic() + context.settings.lease_s
    while True:
        try:
            with context.database.unit_of_work() as uow:
                row = leases.held(uow.session, table, row_id, token)
                pause_s = min(_LONGEST_BACKOFF_S, 0.5 * 2 ** min(row.attempts, 10))
                leases.give_back(row, pause_s if due_in_s is None else due_in_s, failed=failed)
        except leases.LeaseLostError:
            return
        except (OperationalError, PoolTimeoutError):
            if draining.is_set() or time.monotonic() > end:
                log.warning("%s: could not be given back: the database is away", row_id)
                return
            time.sleep(_GIVE_BACK_EVERY_S)
        else:
            return
