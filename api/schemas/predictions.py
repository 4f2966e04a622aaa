"""Shapes of predictions."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from api.domain.paths import check_path
from api.domain.specs import Aggregation, PredictionSpec
from api.schemas.base import Failure, Prose, RequestModel, ResponseModel, Timestamp, Word
from api.store.tables import PredictionRow


class PredictionCreate(RequestModel):
    """Give `input_data` or `inputs`, not both."""

    input_data: str | None = Field(None, description="path in the aggregator's sandbox", examples=["/data/test.json"])
    inputs: Annotated[list[Prose], Field(min_length=1, max_length=10_000)] | None = Field(None, description="texts")
    aggregation: Aggregation = "global"
    training_id: Word | None = Field(None, description="whose model; by default the newest that has finished a round")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.input_data is None) == (self.inputs is None):
            raise ValueError("give either input_data or inputs")
        return self

    def spec(self) -> PredictionSpec:
        path = None if self.input_data is None else check_path(self.input_data, "/input_data", glob=True)
        return PredictionSpec(self.aggregation, None if self.inputs is None else tuple(self.inputs), path, self.training_id)


class PredictedText(ResponseModel):
    text: str
    sentiment: str
    confidence: float = Field(
        description="probability of the label, 0..1, calibrated where a temperature is told; `majority`: the share of votes"
    )


class Results(ResponseModel):
    accuracy: float | None = Field(None, description="when the input is labelled: fraction right, 0..1")
    precision: float | None = Field(None, description="macro mean over the classes")
    recall: float | None = Field(None, description="macro mean over the classes")
    f1_score: float | None = Field(None, description="macro mean over the classes")
    predictions: list[PredictedText]
    temperature: float | None = Field(
        None,
        description="`global`: confidences are softmax(logits / temperature), fitted on held-out data (Guo et al., 2017); null"
        " where nothing is held out, and for the other aggregations, which have one for each worker's own model",
    )
    temperatures: dict[str, float | None] = Field({}, description="by node, of each worker's own model; null: not calibrated")
    engines: dict[str, str] = Field(
        {}, description="by node, what computed: torch, onnx-fp32, or onnx-int8 where that gave the same held-out labels"
    )


class Prediction(ResponseModel):
    prediction_id: str = Field(examples=["pred_ens_ij012"])
    cluster_id: str
    aggregation: Aggregation
    results: Results | None = Field(description="null until it is completed")
    inference_time: str | None = Field(description="seconds that the nodes took", examples=["1.2s"])
    nodes_used: int | None
    status: str = Field(description="pending, completed or failed")
    training_id: str
    created_at: Timestamp
    error: Failure | None

    @classmethod
    def of(cls, row: PredictionRow) -> "Prediction":
        results: Any = row.results
        return cls(
            prediction_id=row.id,
            cluster_id=row.cluster_id,
            aggregation=row.aggregation,
            results=Results(**results) if results else None,
            inference_time=None if row.seconds is None else f"{row.seconds:.2f}s",
            nodes_used=row.nodes_used,
            status=row.status,
            training_id=row.training_id,
            created_at=row.created_at,
            error=Failure.of(row.error),
        )
