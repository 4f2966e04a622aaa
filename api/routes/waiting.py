"""Hold the answer until a background step is done, as `Prefer: wait=N` asks."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Response

from api.domain.errors import ConflictError, InvalidError, WorkFailedError
from api.domain.records import FailureReason
from api.domain.webhooks import DELIVERY_ENDED
from api.http.deps import AppState, State, Wait
from api.routes.common import set_location
from api.services import webhooks
from api.services.lookup import owned
from api.services.principals import Principal
from api.store.database import UnitOfWork
from api.store.kinds import StatusRow, StatusRowT, kind_of
from api.store.tables import ClusterRow, ExecutionRow, ModelRow, PredictionRow, WebhookDeliveryRow

WaitedT = TypeVar("WaitedT", bound=StatusRow | WebhookDeliveryRow)
_CONFLICTS = ("cancelled", "input_changed", "no_aggregator", "no_workers", "sandbox_ended", "unknown_model")
_WORK_FAILED = (
    "agent_died",
    "agent_failed",
    "answer_too_large",
    "bad_answer",
    "end_unknown",
    "export_failed",
    "nodes_unreachable",
    "sandbox_failed",
    "step_failed",
)


@dataclass(frozen=True, slots=True)
class WaitingAnswer:
    """The answer of an operation whose work a background step does.

    `wait_s` are 0 or more seconds.
    """

    state: AppState
    request: Request
    response: Response
    wait_s: int

    async def wait_until_settled(
        self,
        caller: Principal,
        row: StatusRowT,
        *,
        statuses: frozenset[str] | None = None,
        at_least_s: float = 0,
    ) -> StatusRowT:
        """Wait until the row has one of `statuses`, the time is over or the client has left.

        The default of `statuses` are the settled statuses of the row's kind. The time is `wait_s`,
        but not less than `at_least_s`. The answer's status becomes 200 when the client waited
        (`Prefer: wait`) and the row has one of the statuses. No thread and no database session is
        held meanwhile.
        """
        settled = statuses or kind_of(type(row)).settled
        cluster_id = row.id if isinstance(row, ClusterRow) else row.cluster_id

        def load(uow: UnitOfWork) -> StatusRowT:
            return owned(uow.session, type(row), caller.project_id, row.id)

        return await self._wait(cluster_id, row, load, settled, max(self.wait_s, at_least_s))

    async def wait_until_sent(self, caller: Principal, row: WebhookDeliveryRow) -> WebhookDeliveryRow:
        """Wait as asked until the delivery is not tried again. Then the status is 200."""

        def load(uow: UnitOfWork) -> WebhookDeliveryRow:
            return webhooks.delivery(uow.session, caller.project_id, row.webhook_id, row.id)

        return await self._wait(row.webhook_id, row, load, DELIVERY_ENDED, self.wait_s)

    async def _wait(
        self, topic: str, row: WaitedT, load: Callable[[UnitOfWork], WaitedT], settled: Collection[str], seconds: float
    ) -> WaitedT:
        """Load the row at each notification of `topic` until its status is one of `settled`."""

        async def read() -> WaitedT:
            return await self.state.run(load)

        if seconds > 0 and row.status not in settled:
            row = await self.state.listener.poll_until(
                topic, read, lambda loaded: loaded.status in settled, seconds, self.request.is_disconnected
            )
        if self.wait_s and row.status in settled:
            self.response.status_code = HTTPStatus.OK
        return row

    def raise_if_failed(self, row: PredictionRow | ModelRow | ExecutionRow, path: str) -> None:
        """Refuse the request of a client that waited for work which failed or was cancelled.

        So the answer is no success to a client that reads only the HTTP status. The resource
        stays, and `Location` names it.

        Raises:
            ConflictError: the state of the cluster or of the input is the cause.
            WorkFailedError: a part of the system is the cause.
            InvalidError: the request or its data is the cause.
        """
        if not self.wait_s or row.status not in ("failed", "cancelled"):
            return
        reason = row.error or FailureReason(code="cancelled", detail="It was cancelled.")
        kind = ConflictError if reason.code in _CONFLICTS else WorkFailedError if reason.code in _WORK_FAILED else InvalidError
        members = {f"{kind_of(type(row)).noun}_id": row.id}
        raise kind(reason.code, reason.detail, headers={"Location": path}, members=members)

    def set_location(self, path: str) -> None:
        """Name the resource in `Location`, and say in `Preference-Applied` that `Prefer` was
        honoured.
        """
        set_location(self.response, path)
        if self.wait_s:
            self.response.headers["Preference-Applied"] = f"wait={self.wait_s}"


async def get_waiting(state: State, request: Request, response: Response, wait: Wait) -> WaitingAnswer:
    return WaitingAnswer(state, request, response, wait)


Waiting = Annotated[WaitingAnswer, Depends(get_waiting)]
