import pytest
import typer

from api.cli.training_options import _names


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("negative, positive", ["negative", "positive"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ('{"0": "negative", "1": "positive"}', {"0": "negative", "1": "positive"}),
    ],
)
def test_class_names_are_a_list_or_json(given: str, names: object) -> None:
    assert _names(given) == names


def test_broken_json_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter):
        _names('{"0": ')
