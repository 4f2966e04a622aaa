"""Scopes of API keys."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from api.domain.errors import FieldError, ForbiddenError, InvalidError
from api.domain.words import Words, words_of

Scope = Annotated[
    Literal["clusters:read", "clusters:write", "sandboxes:execute", "data:write", "data:export", "models:read", "admin"],
    Words("Scope", "What a key may do. `admin` includes every scope except `data:export`."),
]
KEY_STATES: Final = ("active", "expired", "revoked")
KeyState = Annotated[str, Words("KeyState", "Whether a key can be used.", KEY_STATES)]
SCOPES: Final[frozenset[str]] = frozenset(words_of(Scope))
# `admin` does not include this scope. A key has it only when it is granted by name.
EXPORT: Final = "data:export"
ADMIN: Final = "admin"
OWNER_SCOPES: Final[frozenset[str]] = frozenset({"clusters:read", "data:write", "sandboxes:execute"})


def effective(scopes: Iterable[str]) -> frozenset[str]:
    """Return all scopes that these scopes include.

    `admin` includes every scope except `data:export`.
    """
    held = frozenset(scopes)
    return held | (SCOPES - {EXPORT}) if ADMIN in held else held


def checked(scopes: Iterable[str], *, for_owner: bool = False) -> list[str]:
    """Return the scopes, sorted and without repetitions.

    Raises:
        InvalidError: there is no scope, an unknown one, or one that a data owner cannot have.
    """
    names = sorted(set(scopes))
    allowed = OWNER_SCOPES if for_owner else SCOPES
    refused = [scope for scope in names if scope not in allowed]
    if refused or not names:
        message = "at least one scope is needed"
        if refused:
            known = refused[0] in SCOPES
            message = f"a data owner's key cannot have {refused[0]!r}" if known else f"unknown scope {refused[0]!r}"
        raise InvalidError("invalid_scope", message, errors=(FieldError("/scopes", message),))
    return names


def check_grant(held: Iterable[str], granted: Iterable[str]) -> None:
    """Check that a caller grants only scopes that it has.

    Raises:
        ForbiddenError: it lacks one of them.
    """
    missing = sorted(set(granted) - effective(held))
    if missing:
        raise ForbiddenError("scope_not_held", f"A key can only grant scopes that it has itself; it lacks {missing[0]}.")
