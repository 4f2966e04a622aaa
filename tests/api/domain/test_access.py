"""Access to a sandbox: the whole table of rules."""

from itertools import product
from typing import get_args

import pytest

from api.domain.access import Act, check_access
from api.domain.errors import ForbiddenError, InvalidError
from api.domain.scopes import EXPORT, OWNER_SCOPES, SCOPES, check_grant, checked, effective

WITHIN = ("/data", "/data/x", "/data/a/b")
OUTSIDE = ("/", "/database", "//data/x", "/proc/self/root/data/x", "/run/x", "/dat", "/DATA/x")
HELD = (SCOPES, SCOPES - {EXPORT}, frozenset({"admin"}), frozenset({EXPORT}))


def allowed(act: Act, path: str | None, **who: object) -> bool | None:
    """Return True when only `data:export` allows it, False without it, None when it is refused."""
    try:
        return check_access(act, path, **who)  # type: ignore[arg-type]
    except ForbiddenError:
        return None


@pytest.mark.parametrize("role", ["worker", "validator", "aggregator"])
@pytest.mark.parametrize("sealed", [False, True])
def test_the_whole_table(role: str, sealed: bool) -> None:
    for act, path, scopes, owner in product(get_args(Act), (*WITHIN, *OUTSIDE), HELD, (False, True)):
        found = allowed(act, path, role=role, sealed=sealed, owner=owner, scopes=scopes)
        below = path in WITHIN
        if owner:
            expected = False if act == "execute" or below else None
        elif role == "aggregator":
            expected = False
        elif sealed:
            expected = None
        elif act in ("upload", "delete", "list") and below:
            expected = False
        else:
            expected = True if EXPORT in scopes else None
        assert found is expected, (act, path, sorted(scopes), owner)


def test_admin_has_everything_but_export() -> None:
    assert effective({"admin"}) == SCOPES - {EXPORT}
    assert effective({"admin", EXPORT}) == SCOPES
    assert effective({"clusters:read"}) == {"clusters:read"}


@pytest.mark.parametrize("held", [{"admin"}, {"clusters:read"}, set[str]()])
def test_nobody_grants_beyond_what_they_hold(held: set[str]) -> None:
    for scope in SCOPES:
        if scope in effective(held):
            check_grant(held, [scope])
        else:
            with pytest.raises(ForbiddenError):
                check_grant(held, [scope])


def test_an_owners_scopes_are_few() -> None:
    assert checked(["data:write", "data:write"], for_owner=True) == ["data:write"]
    for scope in SCOPES - OWNER_SCOPES:
        with pytest.raises(InvalidError):
            checked([scope], for_owner=True)
