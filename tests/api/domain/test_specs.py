import pytest

from api.domain.errors import ConflictError, InvalidError
from api.domain.paths import check_path
from api.domain.specs import common_model


@pytest.mark.parametrize(
    ("workers", "aggregator", "model"),
    [
        (["base", "base"], "large", "base"),
        (["base"], "base", "base"),
        (["large"], "large", "large"),
        (["org/tiny"], "org/tiny", "org/tiny"),
        (["/models/x"], "large", "/models/x"),
    ],
)
def test_the_workers_model_is_trained(workers: list[str], aggregator: str, model: str) -> None:
    assert common_model(workers, aggregator) == model


@pytest.mark.parametrize(
    ("workers", "aggregator", "code"),
    [
        (["base", "large"], "large", "models_differ"),
        (["large"], "base", "aggregator_too_small"),
        (["org/tiny"], "base", "aggregator_too_small"),
    ],
)
def test_a_model_that_cannot_be_is_refused(workers: list[str], aggregator: str, code: str) -> None:
    with pytest.raises(ConflictError) as caught:
        common_model(workers, aggregator)
    assert caught.value.code == code


@pytest.mark.parametrize("path", ["", "data/x", "/data/../etc/passwd", "/a\x00b", "/a\nb", "/" + "x" * 2000, "/data/*.json"])
def test_bad_paths_are_refused_with_a_pointer(path: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_path(path, "/path")
    assert caught.value.errors[0].pointer == "/path"


def test_good_paths_are_normalised() -> None:
    assert check_path("/data//x.json", "/path") == "/data/x.json"
    assert check_path("/data/train_*.json", "/dataset", glob=True) == "/data/train_*.json"
