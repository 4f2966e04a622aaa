"""Why a training cannot start."""

from collections.abc import Sequence
from typing import Final

from api.domain.errors import FieldError
from api.domain.records import FailureReason

# A node's state is a conflict (409). Data that cannot be used is unprocessable content (422).
CONFLICT: Final = 409
UNPROCESSABLE: Final = 422


class RefusalError(Exception):
    """Why a training cannot start. `pointers` name the wrong fields of its request."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.reason = FailureReason(code=code, detail=detail, status=status, errors=tuple(errors))
