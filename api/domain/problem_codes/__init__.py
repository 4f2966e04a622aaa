"""The catalogue of error codes: what each one means, and what to do about it.

The list is open: a new version of the service may have new codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from api.domain.problem_codes import agents, data, requests, states, work
from api.domain.words import OpenWords


@dataclass(frozen=True, slots=True)
class ProblemCode:
    """One error code: what it means, and what its reader can do."""

    code: str
    meaning: str
    advice: str


CATALOGUE: Final[Mapping[str, ProblemCode]] = {
    code: ProblemCode(code, *texts)
    for group in (requests.CODES, states.CODES, data.CODES, work.CODES, agents.CODES)
    for code, texts in group.items()
}

Code = Annotated[
    str,
    OpenWords(
        "ProblemCode",
        "A stable code for programs. The list is open: a new version may have new codes."
        " `GET /problems/{code}` says what each one means and what to do.",
        CATALOGUE,
    ),
]
