"""The documentation has every option that a client may set, and every setting of the deployment."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from api.schemas.clusters import ClusterCreate
from api.schemas.nodes import NodeDeploy
from api.schemas.predictions import PredictionCreate
from api.schemas.searches import SearchCreate
from api.schemas.trainings import TrainingCreate
from api.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


def names(page: str) -> set[str]:
    """Every name in backticks. A setting is written without its prefix and in capitals."""
    return {match.lower() for match in re.findall(r"`(?:….)?(\w+)`", (DOCS / page).read_text())}


@pytest.mark.parametrize("model", [ClusterCreate, NodeDeploy, TrainingCreate, SearchCreate, PredictionCreate])
def test_every_option_is_in_the_documentation(model: type[BaseModel]) -> None:
    assert model.model_fields.keys() - {"name"} <= names("options.md")


def test_every_setting_is_in_the_documentation() -> None:
    assert Settings.model_fields.keys() <= names("settings.md")
