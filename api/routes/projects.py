from fastapi import APIRouter

from api.http.auth import ClusterReader
from api.http.deps import State
from api.routes.common import errors
from api.schemas.projects import Project
from api.services import quotas

router = APIRouter(prefix="/v1/project", tags=["projects"])


@router.get("", operation_id="get_project", summary="Get the key's project with its quotas and their use", responses=errors())
async def get_project(caller: ClusterReader, state: State) -> Project:
    """Return the project. A request that would exceed a quota is refused with 403 `quota_exceeded`.

    The operator sets quotas with `flow-nexus projects`.
    """
    return Project.of(*await state.run(lambda uow: quotas.view(uow.session, state.settings, caller.project_id)))
