"""What a key may be allowed to do."""

from collections.abc import Iterable
from typing import Final, Literal

from api.domain.errors import FieldError, ForbiddenError, InvalidError

Scope = Literal["clusters:read", "clusters:write", "sandboxes:execute", "data:write", "data:export", "models:read", "admin"]
SCOPES: Final[frozenset[str]] = frozenset(
    {"clusters:read", "clusters:write", "sandboxes:execute", "data:write", "data:export", "models:read", "admin"}
)
# Taking data out of a worker is nobody's by office: it is granted by name, or not held.
EXPORT: Final = "data:export"
ADMIN: Final = "admin"
OWNER_SCOPES: Final[frozenset[str]] = frozenset({"clusters:read", "data:write", "sandboxes:execute"})


def effective(scopes: Iterable[str]) -> frozenset[str]:
    """What these scopes allow: `admin` has every scope but `data:export`."""
    held = frozenset(scopes)
    return held | (SCOPES - {EXPORT}) if ADMIN in held else held


def checked(scopes: Iterable[str], *, for_owner: bool = False) -> list[str]:
    """Sorted and without repeats. InvalidError for none, for an unknown one, or for one that a data owner cannot have."""
    wanted = sorted(set(scopes))
    allowed = OWNER_SCOPES if for_owner else SCOPES
    odd = [scope for scope in wanted if scope not in allowed]
    if odd or not wanted:
        message = "at least one scope is needed"
        if odd:
            known = odd[0] in SCOPES
            message = f"a data owner's key cannot have {odd[0]!r}" if known else f"unknown scope {odd[0]!r}"
        raise InvalidError("invalid_scope", message, errors=(FieldError("/scopes", message),))
    return wanted


def check_grant(held: Iterable[str], wanted: Iterable[str]) -> None:
    """ForbiddenError when somebody gives away more than they have."""
    beyond = sorted(set(wanted) - effective(held))
    if beyond:
        raise ForbiddenError("scope_not_held", f"A key can only grant scopes that it has itself; it lacks {beyond[0]}.")
