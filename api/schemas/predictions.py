"""Models of predictions."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from api.domain.measuring import Engine
from api.domain.paths import check_path
from api.domain.specs import MOST_VOTED, Aggregation, PredictionSpec
from api.domain.status import PredictionState
from api.domain.training_options import FieldName, OnBadRows
from api.schemas.base import Failure, Figure, Int64, Prose, RequestModel, ResponseModel, Timestamp, Word
from api.store.tables import PredictionRow


class PredictionCreate(RequestModel):
    """Give `input_data` or `inputs`, not both."""

    input_data: str | None = Field(None, description="A path in the aggregator's sandbox.", examples=["/data/test.json"])
    inputs: Annotated[list[Prose], Field(min_length=1, max_length=10_000)] | None = Field(None, description="The texts.")
    text_field: FieldName | None = Field(
        None, description="The field or column of `input_data` with the texts; by default that of the training."
    )
    label_field: FieldName | None = Field(
        None, description="The field or column of `input_data` with the labels; by default that of the training."
    )
    on_bad_rows: OnBadRows | None = Field(
        None, description="Refuse or skip rows of `input_data` without a text; by default as in the training."
    )
    aggregation: Aggregation = "global"
    votes: bool = Field(
        False,
        description=f"Show the answer of each worker. It needs `inputs`, at most {MOST_VOTED} of them, and not `global`:"
        " there each worker has other texts.",
    )
    training_id: Word | None = Field(
        None, description="The training whose model predicts; by default the newest training with a completed round."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.input_data is None) == (self.inputs is None):
            raise ValueError("give either input_data or inputs")
        if self.inputs is not None and (self.text_field or self.label_field or self.on_bad_rows):
            raise ValueError("text_field, label_field and on_bad_rows describe input_data; inputs are texts alone")
        if self.votes and (self.aggregation == "global" or self.inputs is None or len(self.inputs) > MOST_VOTED):
            raise ValueError(f"votes needs inputs, at most {MOST_VOTED} of them, and an aggregation other than global")
        return self

    def spec(self) -> PredictionSpec:
        path = None if self.input_data is None else check_path(self.input_data, "/input_data", glob=True)
        inputs = None if self.inputs is None else tuple(self.inputs)
        return PredictionSpec(
            self.aggregation, inputs, path, self.training_id, self.text_field, self.label_field, self.on_bad_rows, self.votes
        )


class PredictedText(ResponseModel):
    """A text with its predicted label."""

    text: str
    sentiment: str
    confidence: Figure = Field(
        description="The probability of the label, 0..1, calibrated where a temperature is given; for `majority`, the share of"
        " the votes."
    )


class NodeVote(ResponseModel):
    """The label that one worker's model gives a text."""

    sentiment: str
    confidence: Figure = Field(description="The probability of the label, 0..1.")


class ConfusionMatrix(ResponseModel):
    """How often each class was predicted as each class."""

    labels: list[str] = Field(description="The classes that occur as true or predicted labels; at most 50.")
    counts: list[list[int]] = Field(
        description="`counts[i][j]`: the number of samples of the class `labels[i]` that were predicted as `labels[j]`."
        " Rows are true, columns predicted."
    )


class PredictionResults(ResponseModel):
    """The predicted texts, and figures where the input has labels."""

    accuracy: Figure | None = Field(None, description="The fraction of correct predictions, 0..1, when the input has labels.")
    precision: Figure | None = Field(None, description="The macro mean over the classes.")
    recall: Figure | None = Field(None, description="The macro mean over the classes.")
    f1_score: Figure | None = Field(None, description="The macro mean over the classes.")
    confusion_matrix: ConfusionMatrix | None = Field(
        None, description="Over the samples that were scored; null without labels, or with more than 50 classes."
    )
    notices: list[str] = Field(
        [],
        description="Labels or rows of the file that were not used, with counts; and why a figure is null."
        " Also whether most tokens were never seen in training, and whether most texts were cut.",
    )
    predictions: list[PredictedText]
    temperature: Figure | None = Field(
        None,
        description="For `global`: confidences are softmax(logits / temperature). The temperature is fitted on held-out data"
        " (Guo et al., 2017). null without held-out data. The other aggregations have `temperatures` instead.",
    )
    temperatures: dict[str, Figure | None] = Field(
        {}, description="By node: the temperature of each worker's own model; null: not calibrated."
    )
    engines: dict[str, Engine] = Field({}, description="By node: what computed its answers.")
    votes: dict[str, list[NodeVote]] = Field(
        {}, description="By node: its answers in the order of the texts, where `votes` was asked for."
    )


class PredictedTextPage(ResponseModel):
    """One page of the texts of a prediction, in the order of the input."""

    items: list[PredictedText] = Field(description="In the order of the input.")
    next_cursor: str | None = Field(description="The value of ?cursor= for the next page; null on the last page.")


class Prediction(ResponseModel):
    """A prediction by the nodes of a cluster."""

    prediction_id: str = Field(examples=["pred_ens_ij012"])
    cluster_id: str
    aggregation: Aggregation
    results: PredictionResults | None = Field(description="null until the prediction is completed.")
    inference_time: str | None = Field(description="The seconds of the nodes' computation.", examples=["1.2s"])
    nodes_used: int | None
    status: PredictionState
    progress: Figure | None = Field(
        None, description="The part of the texts that is done, 0..1; null while it is not known.", examples=[0.5]
    )
    input_size: Int64 | None = Field(None, description="`input_data`: the bytes of the file or files when work on it began.")
    input_sha256: str | None = Field(
        None,
        description="`input_data`: the SHA-256 of the file when work on it began. Several files count as one, in the order of"
        " their paths. The prediction fails with `input_changed` if the content is another later.",
    )
    training_id: str
    created_at: Timestamp
    error: Failure | None

    @classmethod
    def of(cls, row: PredictionRow, figures: dict[str, Any] | None) -> "Prediction":
        """Return the prediction without its texts. `figures` are the rest of its results."""
        return cls(
            prediction_id=row.id,
            cluster_id=row.cluster_id,
            aggregation=row.aggregation,
            results=None if figures is None else PredictionResults(predictions=[], **figures),
            inference_time=None if row.seconds is None else f"{row.seconds:.2f}s",
            nodes_used=row.nodes_used,
            status=row.status,
            progress=row.progress,
            input_size=row.input_size,
            input_sha256=row.input_sha256,
            training_id=row.training_id,
            created_at=row.created_at,
            error=Failure.of(row.error),
        )
