"""Models of a project with its quotas and their use."""

from collections.abc import Mapping

from pydantic import Field

from api.schemas.base import ResponseModel, Timestamp
from api.store.tables import ProjectRow


class Quota(ResponseModel):
    """A limit of a project, and how much of it is used."""

    limit: float | None = Field(description="null: no limit.")
    used: float


class Quotas(ResponseModel):
    """The quotas of a project."""

    clusters: Quota = Field(description="Clusters that are not terminated.")
    nodes: Quota = Field(description="Nodes that are not terminated.")
    running_sandboxes: Quota = Field(description="Sandboxes that run or are being started.")
    upload_bytes: Quota = Field(description="Bytes that were uploaded to sandboxes that still exist.")
    executions: Quota = Field(description="Executions in the background that have not ended.")
    spend_usd: Quota = Field(description="All sandbox-seconds so far, times their price.")


class Project(ResponseModel):
    """The project of a key, with its quotas."""

    project_id: str = Field(examples=["prj_5m2k8x"])
    name: str
    created_at: Timestamp
    quotas: Quotas

    @classmethod
    def of(cls, row: ProjectRow, quotas: Mapping[str, tuple[float | None, float]]) -> "Project":
        quotas_by_name = {name: Quota(limit=limit, used=used) for name, (limit, used) in quotas.items()}
        return cls(project_id=row.id, name=row.name, created_at=row.created_at, quotas=Quotas(**quotas_by_name))
