"""The environment of each service: what it gets of the caller's."""

import pytest

from api.embedded import environment


def test_the_sandbox_host_gets_its_own_settings_and_no_other_of_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_NEXUS_WARM_AGENTS", "off")
    monkeypatch.setenv("FLOW_NEXUS_SECRET_KEY", "x" * 32)
    monkeypatch.setenv("E2B_API_KEY", "y" * 32)
    given = environment.sandbox_host()
    assert given["FLOW_NEXUS_WARM_AGENTS"] == "off"
    assert not {"FLOW_NEXUS_SECRET_KEY", "E2B_API_KEY"} & set(given)
