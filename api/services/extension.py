"""More epochs for a training that has ended."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain import privacy
from api.domain.errors import ConflictError
from api.domain.status import ENDED_TRAINING
from api.domain.stopping import stop_reason
from api.domain.training_spec import TrainingSpec
from api.services import progress as figures
from api.services import spent_privacy
from api.store.tables import RoundRow, TrainingRow

# The target is met to about 0.1 %, so a spent one still allows epochs of noise alone.
_MOST_NOISE_GROWTH = 10
_RESUMABLE = ("stopped", "failed")
_EXTENDABLE = (*_RESUMABLE, "completed")


def check_status(training: TrainingRow, epochs: int | None) -> None:
    """Check that the training may be resumed, or extended by `epochs`.

    Raises:
        ConflictError: `trial_of_search` or `not_resumable`.
    """
    if epochs is None:
        if training.status not in _RESUMABLE:
            hint = " Give `epochs` to extend it." if training.status == "completed" else ""
            raise ConflictError("not_resumable", f"A training that is {training.status} cannot be resumed.{hint}")
        return
    if training.search_id is not None:
        message = (
            f"{training.id} is a trial of {training.search_id}, whose trials have the same epochs. "
            f"Start a new training with initial_model {training.id!r}."
        )
        raise ConflictError("trial_of_search", message)
    if training.status not in _EXTENDABLE:
        hint = "" if training.status in ENDED_TRAINING else " Wait until it has ended, or stop it."
        raise ConflictError("not_resumable", f"A training that is {training.status} cannot be extended.{hint}")


def extend(session: Session, training: TrainingRow, epochs: int) -> None:
    """Give an ended training so many epochs after its completed rounds.

    Raises:
        InvalidError: the total is too large.
        ConflictError: the code of the stopping rule that would end it at once, or `epsilon_spent`.
    """
    spec = training.config.extended(training.completed_rounds, epochs)
    _check_rules(session, training, spec)
    _check_epsilon(session, training, spec, epochs)
    training.config = spec


def _check_rules(session: Session, training: TrainingRow, spec: TrainingSpec) -> None:
    last = session.scalars(
        select(RoundRow)
        .where(RoundRow.training_id == training.id, RoundRow.status == "completed")
        .order_by(RoundRow.number.desc())
    ).first()
    if last is None:
        return
    # The rounds before do not count for `patience`: the request itself asks for more of them.
    seconds = None if last.seconds is None else float(last.seconds)
    reason = stop_reason(spec.stopping_rules, [last.validation_accuracy], figures.spent(session, training), seconds)
    if reason is not None:
        message = f"{reason.detail} So more epochs would end at once. Start a new training with initial_model {training.id!r}."
        raise ConflictError(reason.code, message)


def _check_epsilon(session: Session, training: TrainingRow, spec: TrainingSpec, epochs: int) -> None:
    asked, record = spec.differential_privacy, training.privacy
    if asked is None or record is None:
        return
    for node_id, plan in record.plans.items():
        spent = spent_privacy.steps(session, training.id, node_id)
        if not privacy.allows_more(asked, record.delta, plan, epochs, spent, _MOST_NOISE_GROWTH):
            message = (
                f"{node_id} has spent epsilon {record.epsilon.get(node_id, 0.0):.4g} of the target {asked.target_epsilon:g}. "
                f"What is left would need over {_MOST_NOISE_GROWTH} times as much noise, from which nothing is learned."
            )
            raise ConflictError("epsilon_spent", message)
