"""`flow-nexus neural predict`."""

from typing import Annotated

import typer

from api.cli.errors import FAILURE, UsageError
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import views
from api.cli.parameters import ClusterId, Wait
from api.cli.responses import PredictionJson
from api.cli.schema_help import schema_command
from api.cli.session import Session, failed, given, group, with_session

app = group("Predictions with the trained model of a cluster.")

_WAIT_S = 120


@app.command("distributed", cls=schema_command("predictions.PredictionCreate"))
@with_session
def distributed(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    cluster_id: ClusterId,
    input_data: Annotated[str | None, typer.Option(help="A path in the aggregator's sandbox: /data/test.json")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text to classify (repeatable).")] = None,
    text_field: str | None = None,
    label_field: str | None = None,
    on_bad_rows: str | None = None,
    aggregation: str | None = None,
    votes: bool | None = None,
    wait: Wait = _WAIT_S,
) -> None:
    """Classify texts on all workers of a cluster, and wait for the result."""
    if (input_data is None) == (not text):
        raise UsageError("give the texts with either --input-data or --text")
    with session.busy("predicting"):
        prediction = session.client.post_and_poll(
            api_path("clusters", cluster_id, "predictions"),
            PredictionJson,
            given(
                input_data=input_data,
                inputs=text or None,
                text_field=text_field,
                label_field=label_field,
                on_bad_rows=on_bad_rows,
                aggregation=aggregation,
                votes=votes,
            ),
            wait=wait,
            pending="pending",
            location=lambda prediction: api_path("predictions", prediction.prediction_id),
        )
    session.show(prediction, views.prediction)
    if failed(prediction.status):
        raise typer.Exit(FAILURE)


PredictionId = Annotated[str, id_option("--prediction-id", "prediction", "pred_ens_ij012")]


@app.command("status")
@with_session
def show_status(session: Session, prediction_id: PredictionId) -> None:
    """Show one prediction."""
    session.show(session.client.get(api_path("predictions", prediction_id), PredictionJson), views.prediction)


@app.command("cancel")
@with_session
def cancel(session: Session, prediction_id: PredictionId) -> None:
    """Cancel a pending prediction."""
    session.show(session.client.post(api_path("predictions", prediction_id, "cancel"), PredictionJson), views.prediction)
