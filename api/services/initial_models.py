"""Where the model lies that a training begins from, and whether it fits."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain import ids, initial_models
from api.domain.errors import ConflictError, FieldError, InvalidError
from api.domain.initial_models import POINTER
from api.domain.training_spec import TrainingSpec
from api.services.lookup import owned
from api.store.tables import ClusterRow, ModelRow, TrainingRow

_FROM_SCRATCH = ("base", "large")
_SIZES = (*_FROM_SCRATCH, "minilm")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model of the project.

    `export` has a copy at the control plane. It is None where only nodes of the cluster hold the
    model.
    """

    training: TrainingRow
    digest: str
    export: ModelRow | None
    is_in_cluster: bool


def find(session: Session, cluster: ClusterRow, source: str, digest: str | None = None) -> ModelSource | None:
    """Return the model that an id names. None for a path.

    A training id names its newest global model, or the one with this digest.

    Raises:
        NotFoundError: the project has no such training or model.
        ConflictError: `no_model`, `model_not_ready` or `export_first`.
    """
    if initial_models.is_path(source):
        return None
    if source.startswith(ids.MODEL_PREFIX):
        model = owned(session, ModelRow, cluster.project_id, source)
        if model.status != "completed":
            raise ConflictError("model_not_ready", f"The model {source} is {model.status}.")
        return ModelSource(session.get_one(TrainingRow, model.training_id), model.digest, model, is_in_cluster=False)
    training = owned(session, TrainingRow, cluster.project_id, source)
    digest = digest or training.digest
    if not training.completed_rounds or digest is None:
        raise ConflictError("no_model", f"The training {source} has no global model yet: no round is finished.")
    export = session.scalars(
        select(ModelRow)
        .where(ModelRow.training_id == training.id, ModelRow.status == "completed", ModelRow.digest == digest)
        .order_by(ModelRow.created_at.desc())
    ).first()
    is_in_cluster = training.cluster_id == cluster.id
    if export is None and not is_in_cluster:
        message = (
            f"The newest model of {source} lies in another cluster. Export it first (POST /v1/trainings/{source}/exports), "
            "then repeat this request."
        )
        raise ConflictError("export_first", message)
    return ModelSource(training, digest, export, is_in_cluster)


def check(session: Session, cluster: ClusterRow, spec: TrainingSpec, model: str) -> None:
    """Check that the initial model of a training is there, and that it can fit the nodes' `model`.

    What a path holds is checked in the sandbox, when the training is prepared.

    Raises:
        NotFoundError, ConflictError: as `find`.
        InvalidError: `initial_model_differs`, which names both models.
    """
    found = None if spec.initial_model is None else find(session, cluster, spec.initial_model)
    if found is None:
        return
    training = found.training
    architecture = session.get_one(ClusterRow, training.cluster_id).config.architecture
    names = {training.model, model}
    if architecture != cluster.config.architecture or (len(names) > 1 and names <= {*_SIZES}):
        message = (
            f"the initial model {spec.initial_model} is {training.model!r} of the architecture {architecture!r}; "
            f"this cluster trains {model!r} of the architecture {cluster.config.architecture!r}"
        )
        raise InvalidError("initial_model_differs", message, errors=(FieldError(POINTER, message),))


def marks_seen_words(session: Session, training: TrainingRow) -> bool:
    """Return whether a training's model shows which words were seen, by it and by all before it.

    False where it began from an export whose training is not known.
    """
    row: TrainingRow | None = training
    while row is not None:
        mode = session.get_one(ClusterRow, row.cluster_id).config.consensus
        if row.model not in _FROM_SCRATCH or not row.config.marks_seen_words(mode):
            return False
        source = row.config.initial_model
        if source is None:
            return True
        row = _training_of(session, source)
    return False


def _training_of(session: Session, source: str) -> TrainingRow | None:
    if source.startswith(ids.MODEL_PREFIX):
        model = session.get(ModelRow, source)
        return None if model is None else session.get(TrainingRow, model.training_id)
    return None if initial_models.is_path(source) else session.get(TrainingRow, source)
