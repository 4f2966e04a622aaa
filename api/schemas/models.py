"""Models of the API for exported models."""

from typing import Annotated

from pydantic import Field

from api.domain.status import ModelState
from api.schemas.base import Failure, Figure, Int64, RequestModel, ResponseModel, Timestamp
from api.store.tables import ModelRow


class ExportCreate(RequestModel):
    """The name of the model to export."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="Letters, digits, dots, dashes and underscores.", examples=["sentiment_model_v1.0"]
    )


class ModelFile(ResponseModel):
    """A file of an exported model."""

    path: str
    size: Int64 = Field(description="Bytes.")
    sha256: str


class Model(ResponseModel):
    """An exported model."""

    model_id: str = Field(examples=["mdl_4k2j9x"])
    training_id: str
    cluster_id: str
    name: str
    status: ModelState
    progress: Figure | None = Field(
        None, description="The part of the export that is done, 0..1; null before it begins.", examples=[0.5]
    )
    digest: str = Field(description="Sha256 of the global model's tensors file.")
    path: str | None = Field(description="The folder in the aggregator's sandbox.", examples=["/export/sentiment_model_v1.0"])
    size: Int64 | None = Field(description="Bytes of the archive for download.")
    sha256: str | None = Field(description="Of the archive.")
    files: list[ModelFile]
    created_at: Timestamp
    finished_at: Timestamp | None
    error: Failure | None

    @classmethod
    def of(cls, row: ModelRow) -> "Model":
        return cls(
            model_id=row.id,
            training_id=row.training_id,
            cluster_id=row.cluster_id,
            name=row.name,
            status=row.status,
            progress=row.progress,
            digest=row.digest,
            path=row.path,
            size=row.size,
            sha256=row.sha256,
            files=[ModelFile(**file) for file in row.files],
            created_at=row.created_at,
            finished_at=row.finished_at,
            error=Failure.of(row.error),
        )
