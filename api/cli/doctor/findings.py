"""What the checks of a deployment find."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    `failed`: work would fail. `note`: work goes on, and the operator should know. Neither `detail`
    nor `remedy` has a secret.
    """

    name: str
    state: State
    detail: str
    remedy: str | None = None


def ok(name: str, detail: str) -> Finding:
    return Finding(name, "ok", detail)


def note(name: str, detail: str, remedy: str | None = None) -> Finding:
    return Finding(name, "note", detail, remedy)


def failed(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, "failed", detail, remedy)
