"""How far a step's work is, written down meanwhile: predictions, exports, data of trainings."""

import asyncio
import logging
from contextlib import suppress

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from api.domain.preparation import PreparationRecord
from api.store.tables import ModelRow, PredictionRow, TrainingRow
from workers.agent_client import AgentCallError, AgentClient
from workers.context import Context

log = logging.getLogger(__name__)
_EVERY_S = 1.0
_FollowedRow = PredictionRow | ModelRow | TrainingRow


def note(context: Context, table: type[PredictionRow] | type[ModelRow], row_id: str, token: str, progress: float) -> None:
    """Write down the part that is done, 0..1."""
    _write(context, table, row_id, token, progress=round(min(1.0, max(0.0, progress)), 3))


def note_preparation(context: Context, training_id: str, token: str, record: PreparationRecord) -> None:
    """Write down how far the data of a training is read."""
    _write(context, TrainingRow, training_id, token, preparation=record)


def _write(context: Context, table: type[_FollowedRow], row_id: str, token: str, **values: object) -> None:
    """Change a pending row. A lost lease or a lost database is no failure."""
    try:
        with context.database.unit_of_work() as uow:
            uow.session.execute(
                update(table).where(table.id == row_id, table.lease_token == token, table.status == "pending").values(**values)
            )
    except SQLAlchemyError as error:
        log.info("%s: its progress was not written down: %s", row_id, type(error).__name__)


async def follow_prediction(context: Context, agent: AgentClient, prediction_id: str, token: str) -> None:
    """Copy the agent's progress of a prediction into its row until the task is cancelled."""
    last: float | None = None
    while True:
        await asyncio.sleep(_EVERY_S)
        with suppress(AgentCallError):
            progress = (await agent.prediction_progress(prediction_id)).progress
            if progress is not None and progress != last:
                await asyncio.to_thread(note, context, PredictionRow, prediction_id, token, progress)
                last = progress
