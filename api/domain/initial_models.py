"""The model that a training begins from, if it does not begin with random weights."""

from collections.abc import Sequence

from api.domain.errors import FieldError, InvalidError
from api.domain.ids import MODEL_PREFIX, TRAINING_PREFIX
from api.domain.paths import check_path
from api.domain.records import Record

POINTER = "/initial_model"


class InitialModel(Record):
    """The model that a training began from.

    `source` is the request's value. `digest` is the SHA-256 of its tensors as a file of a global
    model. `labels` are its classes in output order.
    """

    source: str
    digest: str
    labels: tuple[str, ...]

    def with_labels(self, labels: Sequence[str]) -> list[str]:
        """Return its classes in their order, then the other `labels`."""
        known = set(self.labels)
        return [*self.labels, *(label for label in labels if label not in known)]


def is_path(source: str) -> bool:
    """Return whether a source is a path in the aggregator's sandbox, not an id."""
    return source.startswith("/")


def checked_source(source: str) -> str:
    """Return the source of a request: an id as it is, or a normalized path.

    Raises:
        InvalidError: `invalid_path`, or `invalid_request` where it is neither an id nor a path.
    """
    if is_path(source):
        return check_path(source, POINTER)
    if not source.startswith((MODEL_PREFIX, TRAINING_PREFIX)):
        message = (
            f"give a model id ({MODEL_PREFIX}…), a training id ({TRAINING_PREFIX}…), "
            "or the absolute path of an export in the aggregator's sandbox"
        )
        raise InvalidError("invalid_request", message, errors=(FieldError(POINTER, message),))
    return source
