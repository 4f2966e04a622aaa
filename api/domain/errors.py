"""Errors of use cases, with messages for clients. The HTTP layer turns each into problem+json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: a JSON pointer into the request body and a message."""

    pointer: str
    message: str


class DomainError(Exception):
    """Base of all refusals.

    `status` is the HTTP status. `code` is stable and meant for programs. `detail` is the message.
    `members` are further fields of the problem document.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.headers = headers or {}
        self.members = members or {}


class UnauthorizedError(DomainError):
    status = 401
    title = "Not authenticated"


class ForbiddenError(DomainError):
    status = 403
    title = "Not allowed"


class QuotaExceededError(ForbiddenError):
    """A project would exceed a quota. `used` is its use now; `asked` is the additional amount."""

    title = "Quota exceeded"

    def __init__(self, quota: str, limit: float, used: float, asked: float) -> None:
        detail = f"The project's quota {quota} is {limit:,}; it uses {used:,}, and this would add {asked:,}."
        members = {"quota": {"name": quota, "limit": limit, "used": used, "asked": asked}}
        super().__init__("quota_exceeded", detail, members=members)


class NotFoundError(DomainError):
    status = 404
    title = "Not found"

    def __init__(self, noun: str, resource_id: str, place: str = " in this project") -> None:
        super().__init__("not_found", f"There is no {noun} {resource_id!r}{place}.")


class ConflictError(DomainError):
    status = 409
    title = "Conflict with the current state"


class PreconditionError(DomainError):
    status = 412
    title = "Precondition failed"


class TooLargeError(DomainError):
    status = 413
    title = "Content too large"


class RangeNotSatisfiableError(DomainError):
    """A download asks for bytes that the file does not have. `size` is the size of the file."""

    status = 416
    title = "Range not satisfiable"

    def __init__(self, size: int) -> None:
        detail = f"The file has {size} bytes, and none of them is in this range. Leave `Range` out to get all."
        super().__init__("range_not_satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})


class InvalidError(DomainError):
    status = 422
    title = "Invalid request"


class RateLimitedError(DomainError):
    status = 429
    title = "Too many requests"


class UpstreamError(DomainError):
    """A sandbox or its provider failed. The state of the control plane is intact."""

    status = 502
    title = "Sandbox provider failed"


class WorkFailedError(UpstreamError):
    """A prediction or an export failed for a cause that its request does not have."""

    title = "The work failed"


class UnavailableError(DomainError):
    status = 503
    title = "Temporarily unavailable"
