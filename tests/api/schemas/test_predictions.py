import pytest
from pydantic import ValidationError

from api.schemas.predictions import PredictionCreate


def test_the_fields_of_an_input_file_reach_its_row() -> None:
    request = PredictionCreate(input_data="/data/test.csv", text_field="review", label_field="stars", on_bad_rows="skip")
    stored = request.spec().input
    assert (stored.input_data, stored.text_field, stored.label_field, stored.on_bad_rows) == (
        "/data/test.csv",
        "review",
        "stars",
        "skip",
    )


def test_texts_in_the_request_have_no_fields() -> None:
    with pytest.raises(ValidationError, match="describe input_data"):
        PredictionCreate(inputs=["a text"], text_field="review")
