from typing import Annotated

from fastapi import APIRouter

from api.domain.errors import NotFoundError
from api.domain.problem_codes import CATALOGUE
from api.routes.common import errors, path_id
from api.schemas.problems import ProblemExplanation

router = APIRouter(prefix="/problems", tags=["operations"])
CodePath = Annotated[
    str,
    path_id("The `code` of a problem.", "not_found"),
]


@router.get("/{code}", operation_id="explain_problem", summary="Explain an error code", responses=errors(404, open_to_all=True))
async def explain_problem(code: CodePath) -> ProblemExplanation:
    """Return what an error code means and what to do. The `type` of each problem leads here."""
    if code not in CATALOGUE:
        raise NotFoundError("error code", code, place="")
    return ProblemExplanation.of(CATALOGUE[code])
