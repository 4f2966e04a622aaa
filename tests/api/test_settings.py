"""Settings from environment variables."""

from types import NoneType
from typing import get_args

import pytest
from pydantic import ValidationError

from api.settings import Settings

REQUIRED = {
    "FLOW_NEXUS_DATABASE_URL": "postgresql+psycopg://127.0.0.1/none",
    "FLOW_NEXUS_REDIS_URL": "redis://127.0.0.1/0",
    "FLOW_NEXUS_SECRET_KEY": "a secret key of thirty-two letters",
    "FLOW_NEXUS_MODELS_DIR": "models",
    "FLOW_NEXUS_E2B_API_KEY": "a key",
}
OPTIONAL = [name for name, field in Settings.model_fields.items() if NoneType in get_args(field.annotation)]


@pytest.fixture(autouse=True)
def _required(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_is_no_value(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"FLOW_NEXUS_{name.upper()}", "null")
    assert getattr(Settings(), name) is None


def test_the_rate_limit_can_be_turned_off() -> None:
    assert "rate_limit" in OPTIONAL


def test_a_setting_that_needs_a_value_refuses_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_NEXUS_MAX_STREAMS", "null")
    with pytest.raises(ValidationError, match="max_streams"):
        Settings()


def test_the_address_of_mlflow_must_be_one_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_NEXUS_MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert Settings().mlflow_tracking_uri is not None
    monkeypatch.setenv("FLOW_NEXUS_MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(ValidationError, match="must begin with http"):
        Settings()
